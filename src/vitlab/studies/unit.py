"""What an executor starts: one run, from its configuration to its run folder, begun or continued.

    python -m vitlab.studies.unit FOLDER      with the configuration as one line of JSON on standard input

Exit codes are those of `vitlab train`. When standard input ends, because whoever started this has died, the run saves
its state and ends too.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from vitlab.config import RunConfig
from vitlab.errors import DivergedError, RunError, VitlabError
from vitlab.runs.folder import RunFolder
from vitlab.runs.result import Result
from vitlab.text import say


def main() -> int:
    """Read, run, answer with an exit code and, if it is not 0, one line."""
    atexit.register(gc.freeze)  # as in main.py
    line = sys.stdin.readline()
    threading.Thread(target=end_with_parent, daemon=True).start()
    return run_unit(json.loads(line), Path(sys.argv[1]))


def end_with_parent() -> None:
    """Wait for the end of standard input, then ask this process to stop."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def run_unit(values: dict[str, Any], folder: Path) -> int:
    """Begin the run in ``folder``, or continue it; its exit code. Says on standard error what went wrong."""
    try:
        result = begin_or_continue(RunConfig.from_dict(values), folder)
    except VitlabError as error:
        say(f"vitlab: {error}")
        return error.exit_code
    if result["status"] == "interrupted":
        return 128 + (result.signal or signal.SIGTERM)
    return 0 if result["status"] == "done" else DivergedError.exit_code


def begin_or_continue(config: RunConfig, path: Path) -> Result:
    """The result of the run of ``config`` in ``path``, trained as far as it was not."""
    from vitlab.runs.session import Reporter, resume_run, train_run

    reporter = Reporter(note=say)
    if not (path / "config.json").exists():
        return train_run(config, path, reporter)
    folder = RunFolder(path)
    if folder.config().digest() != config.digest():
        raise RunError(f"{path} holds another run; choose another --runs")
    result = folder.result()
    if result is not None and result["status"] == "diverged":
        return result
    return resume_run(path, reporter)


if __name__ == "__main__":
    raise SystemExit(main())
