"""A process that has imported everything and forks one child for each `vitlab` command, which saves seconds a start.

    python -m benchmarks.proof.warm      one request a line on standard input, see `Request` in context.py

For every request it writes into the folder ``notes``: pid, out, err, and at the end end.json.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def arm(shim: dict[str, Any]) -> None:
    """Tell the preloaded shim what to watch, and what to do at which call."""
    call = ctypes.CDLL(None).proof_arm
    call(
        shim["folder"].encode(), shim["kinds"].encode(), ctypes.c_long(shim["at"]), shim["action"], shim["sticky"],
        shim["log"].encode(),
    )  # fmt: skip


def child(request: dict[str, Any], notes: Path) -> int:
    """The command itself; its exit code."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, or a shell in the background, has it ignored
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(notes / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    if request["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    if request["shim"]:
        arm(request["shim"])
    from vitlab.cli import main

    code = main(request["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def supervise(request: dict[str, Any]) -> None:
    """Fork the command, wait for it and note its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    notes = Path(request["notes"])
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child(request, notes)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    (notes / "pid.part").write_text(str(pid))
    (notes / "pid.part").rename(notes / "pid")
    _, status, usage = os.wait4(pid, 0)
    end = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "mib": usage.ru_maxrss / 1024,
    }
    (notes / "end.part").write_text(json.dumps(end))
    (notes / "end.part").rename(notes / "end.json")


def main() -> None:
    """Answer requests until standard input ends."""
    import sklearn.datasets  # noqa: F401
    from PIL import Image

    import vitlab.cli.predict
    import vitlab.export.web
    import vitlab.look.write
    import vitlab.runs.session  # noqa: F401

    Image.init()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            try:
                supervise(json.loads(line))
            finally:
                os._exit(0)


if __name__ == "__main__":
    main()
