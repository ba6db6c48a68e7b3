"""One run of a study in a process: how an executor starts it, and what that process does.

    python -m vitlab.studies.unit FOLDER   with what `start` was given as one line of JSON on standard input

The process trains the configuration into the run folder, from the start or from its last checkpoint, and exits with the
codes of `vitlab train`. When its standard input ends, because the process that started it has died, it saves its state
and exits too.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vitlab.advice import for_the_command_line
from vitlab.config import RunConfig
from vitlab.errors import DivergedError, RunError, VitlabError
from vitlab.text import say

if TYPE_CHECKING:
    from vitlab.runs.result import Result


@dataclass(frozen=True)
class Unit:
    """A run to compute: its configuration as plain values, its run folder, the file that its output goes to, and the
    digest of the images that it must be trained on, if that is known."""

    name: str
    config: dict[str, Any]
    folder: Path
    log: Path
    data_sha256: str | None = None


@dataclass(frozen=True)
class Ending:
    """How a unit ended: the exit code of `vitlab train`, or a negative number if a signal killed it. ``lost`` says what
    took its place away: a node that died, for example. It then continues from its last checkpoint."""

    unit: Unit
    code: int
    lost: str = ""


@dataclass(frozen=True)
class Whereabouts:
    """Where a unit runs: the name of the ``node``, or what it waits for if that is empty; how many epochs are done."""

    node: str
    waits_for: str = ""
    epochs: int = 0


def start(
    config: dict[str, Any],
    folder: Path,
    threads: int,
    log: BinaryIO,
    data_sha256: str | None = None,
    *,
    data: str | None = None,
    allow_drift: bool = False,
) -> subprocess.Popen[bytes]:
    """Start the process that trains ``config`` into ``folder`` and writes its output to ``log``.

    ``data_sha256`` is the digest of the images that it must be trained on; ``data`` says where these are if not where
    the configuration says. ``threads`` applies if the configuration names no number. ``allow_drift``: a run that began
    on another processor continues, and its environment.json says so. The process ends when the caller's end of its
    standard input is closed.
    """
    config = share(config, threads)
    asked = {"config": config, "data_sha256": data_sha256, "data": data, "allow_drift": allow_drift}
    # -P: "-m" alone would look for modules in the working folder first, where anyone may have put some.
    alone = [] if os.getcwd() in map(os.path.abspath, sys.path) else ["-P"]
    process = subprocess.Popen(
        [sys.executable, *alone, "-m", __name__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C reaches only the driver, which then stops its units
        env=os.environ | {"OMP_NUM_THREADS": str(config["machine"]["threads"])},
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has died already, which its exit code will say
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
    return process


def share(config: dict[str, Any], threads: int) -> dict[str, Any]:
    """The configuration with ``threads`` threads, unless it names a number itself."""
    machine = config["machine"]
    return config | {"machine": machine | {"threads": machine["threads"] or threads}}


def tail(log: Path, lines: int = 5) -> list[str]:
    """The last lines of a unit's log; none if it cannot be read."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def main() -> int:
    """The process itself: its exit code, after one line on standard error if that is not 0."""
    atexit.register(gc.freeze)  # as in cli/main.py
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=stop_with_parent, daemon=True).start()
    try:
        config = RunConfig.from_dict(asked.pop("config"))
        result = begin_or_continue(config, Path(sys.argv[1]), **asked)
    except VitlabError as error:
        say(f"vitlab: {error}")
        return error.exit_code
    if result.status == "interrupted":
        return 128 + (result.signal or signal.SIGTERM)
    if result.status == "diverged":
        say(f"the loss became infinite or NaN in step {(result.steps or 0) + 1}")
    return 0 if result.status == "done" else DivergedError.exit_code


def stop_with_parent() -> None:
    """Wait for the end of standard input, then send this process SIGTERM."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def begin_or_continue(
    config: RunConfig,
    path: Path,
    data_sha256: str | None = None,
    data: str | None = None,
    allow_drift: bool = False,
) -> Result:
    """Train what is missing of the run of ``config`` in ``path``; DataError unless its images have that digest. The
    others are as for `start`."""
    from vitlab.data import CATALOGUE
    from vitlab.runs.folder import RunFolder
    from vitlab.runs.session import Reporter, absolute, resume_run, train_run

    reporter, folder = Reporter(note=say), RunFolder(path)
    if data is not None and config.data.data in CATALOGUE:  # a folder with the files of a set of the catalogue
        os.environ["VITLAB_DATA"] = os.pathsep.join([data, os.environ.get("VITLAB_DATA", "")])
        data = None
    if not (path / "config.json").exists():
        return train_run(config, path, reporter, data_sha256=data_sha256, data=data)
    # A run stores where its images were, and a study may name the same ones relative to another working folder.
    if folder.config().with_knobs(data=config.data.data, rehearse=config.data.rehearse).digest() != config.digest():
        raise RunError(f"{path} holds another run; choose another --runs")
    if data_sha256 is not None:
        folder.check_same_digest(data_sha256)
    result = folder.result()
    if result is not None and result.status == "diverged":
        return result
    place = data or absolute(config.data.data)
    return resume_run(path, reporter, asked={"data": place}, allow_drift=allow_drift)


if __name__ == "__main__":
    with for_the_command_line():
        code = main()
    raise SystemExit(code)
