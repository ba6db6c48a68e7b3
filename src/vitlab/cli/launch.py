"""`vitlab train --ranks N`: start the ranks of a training as processes of this machine, and end them together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vitlab.config import RunConfig
from vitlab.errors import RankError
from vitlab.files import exists, write_json
from vitlab.interrupts import stop_on_signals
from vitlab.processor import available_cores
from vitlab.ranks import NAMES, STORE
from vitlab.text import quoted, say

POLL_SECONDS = 0.05
GRACE_SECONDS = 4.0  # for the others to end by themselves when one has failed


@dataclass(frozen=True)
class Ended:
    """How one of the ranks ended: its exit code, negative if a signal killed it."""

    rank: int
    code: int


def begin(config: RunConfig, path: Path, options: Sequence[str], count: int) -> int:
    """Train ``config`` into ``path`` with ``count`` ranks and the ``options`` of `vitlab train`: the exit code."""
    with tempfile.TemporaryDirectory(prefix="vitlab-ranks-") as name:
        folder = Path(name)
        write_json(folder / "config.json", config.to_dict())
        words = ["train", "--config", str(folder / "config.json"), "--out", str(path), *options]
        return together(words, path, folder, count, config.machine.threads)


def go_on(path: Path, words: Sequence[str], count: int, threads: int | None) -> int:
    """Resume ``path`` with ``count`` ranks by the command ``words``: the exit code."""
    with tempfile.TemporaryDirectory(prefix="vitlab-ranks-") as name:
        return together(words, path, Path(name), count, threads)


def together(words: Sequence[str], path: Path, folder: Path, count: int, threads: int | None) -> int:
    """Run `vitlab` with these ``words`` in ``count`` processes, which find each other in ``folder``; the exit code of
    the first one. RankError if another one has failed."""
    processes: list[subprocess.Popen[bytes]] = []
    with stop_on_signals() as stop, tempfile.TemporaryFile() as errors:
        try:
            for rank in range(count):
                environment = environment_of(rank, count, folder / "store", threads)
                processes.append(start(words, environment, None if rank == 0 else errors))
            ended = watch(processes, lambda: stop.signum)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        errors.seek(0)
        return conclude(ended, errors.read().decode(errors="replace"), path)


def environment_of(rank: int, count: int, store: Path, threads: int | None) -> dict[str, str]:
    """The environment of one rank, with what torchrun would set, too."""
    share = max(1, (threads or available_cores()) // count)
    numbers = dict(zip(NAMES, map(str, (rank, count, rank, count)), strict=True))
    wishes = {"OMP_NUM_THREADS": str(share), **loopback()}
    return wishes | os.environ | numbers | {STORE: str(store)}


def loopback() -> dict[str, str]:
    """Let gloo listen where only this machine can connect."""
    with suppress(OSError, AttributeError):
        names = {name for _, name in socket.if_nameindex()}
        if found := names.intersection(("lo", "lo0")):  # Linux, macOS
            return {"GLOO_SOCKET_IFNAME": found.pop()}
    return {}


def start(words: Sequence[str], environment: dict[str, str], errors: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """One rank; without ``errors`` it speaks for all."""
    # -P: as for the processes of a study (studies/unit.py).
    alone = [] if os.getcwd() in map(os.path.abspath, sys.path) else ["-P"]
    return subprocess.Popen(
        [sys.executable, *alone, "-m", "vitlab", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if errors is None else subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # Ctrl-C reaches only this process, which tells the first rank
    )


def watch(processes: Sequence[subprocess.Popen[bytes]], asked: Callable[[], int]) -> list[Ended]:
    """Wait until all have ended, or one has failed and the others have had time to; how they ended, in that order.
    ``asked`` is the number of the signal to pass on to the first rank."""
    ended: list[Ended] = []
    running, passed_on, until = dict(enumerate(processes)), False, float("inf")
    while running and time.monotonic() < until:
        for rank, process in list(running.items()):
            if (code := process.poll()) is not None:
                ended.append(Ended(rank, code))
                del running[rank]
                if code:
                    until = min(until, time.monotonic() + GRACE_SECONDS)
        if asked() and not passed_on and 0 in running:
            running[0].send_signal(asked())
            passed_on = True
        time.sleep(POLL_SECONDS)
    return ended


def conclude(ended: Sequence[Ended], errors: str, path: Path) -> int:
    """The exit code of the first rank, if it has said what happened; otherwise say it."""
    first = next((one.code for one in ended if one.rank == 0), RankError.exit_code)
    if first >= 0 and first != RankError.exit_code:
        return first
    failed = [one for one in ended if one.code not in (0, RankError.exit_code)]
    if failed and failed[0].code > 0:
        for line in dict.fromkeys(errors.splitlines()):  # several may have failed alike
            say(line)
        return failed[0].code
    who = "a rank has ended"
    if failed:
        who = f"rank {failed[0].rank} was killed ({signal.Signals(-failed[0].code).name})"
    then = f"to continue: `vitlab train --resume {quoted(path)}`" if exists(path / "config.json") else "start it again"
    raise RankError(f"{who}, so all of them have ended; {then}")
