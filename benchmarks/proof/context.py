"""What every attack needs: folders, a time budget, seeded draws, commands with injected faults, and an unbroken run."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
SHIM = Path(__file__).with_name("shim.c")
PATIENCE = 60.0  # seconds for one command
WORKERS = 2  # commands at the same time
# A training of a second with everything random switched on; each step is followed by a checkpoint.
KNOBS = shlex.split("""
    --data digits --limit-train 500 --epochs 3 --threads 1 --precision fp32 --device cpu --image-size 8 --patch-size 2
    --patch-overlap 0 --embed-dim 12 --depth 2 --num-heads 3 --batch-size 101 --dropout 0.1 --drop-path 0.1
    --select best --ema-decay 0.9 --checkpoint-seconds 0 --quiet
""")
TIMES = ("train_seconds", "wall_seconds")

T = TypeVar("T")
R = TypeVar("R")
Figures = dict[str, Any]


class Skipped(Exception):
    """This machine cannot run the attack; the text says why."""


@dataclass(frozen=True)
class Shim:
    """Which file-system calls below ``folder`` count (letters, see shim.c; "": all), and what the ``at``-th meets: an
    errno (positive) or a signal (negative). ``sticky``: every later one, too. Calls are listed in ``log``."""

    folder: Path
    kinds: str = ""
    at: int = 0
    action: int = 0
    sticky: bool = False
    log: str = ""

    def values(self) -> dict[str, Any]:
        """For the warm process."""
        return {**vars(self), "folder": str(self.folder), "sticky": int(self.sticky)}


@dataclass(frozen=True)
class Ended:
    """How a command ended; a negative code is a signal. ``mib`` is the peak of its memory."""

    code: int
    out: str
    err: str
    seconds: float
    mib: float
    hung: bool = False

    @property
    def last_line(self) -> str:
        """What a user sees last on standard error."""
        return (self.err.strip().splitlines() or [""])[-1]

    @property
    def is_one_line(self) -> bool:
        """Whether the error is told as vitlab promises: one line that begins with its name, the last one."""
        lines = [line for line in self.err.splitlines() if line.startswith("vitlab: ")]
        return len(lines) == 1 and self.last_line == lines[0] and "Traceback" not in self.err

    @property
    def wrong(self) -> str:
        """TRACEBACK, HANG or CRASH, if that is how it ended; else nothing."""
        if self.hung:
            return "HANG"
        if "Traceback (most recent call last)" in self.err:
            return "TRACEBACK"
        return "CRASH" if self.code < 0 else ""


class Command:
    """A running `vitlab` command of the warm process."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def pid(self) -> int:
        """Its process id."""
        deadline = time.monotonic() + PATIENCE
        while not (self.notes / "pid").exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the command did not start: {self.notes}")
            time.sleep(0.001)
        return int((self.notes / "pid").read_text())

    def send(self, signum: int) -> bool:
        """Send a signal; whether it met a living process."""
        if (self.notes / "end.json").exists():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(), signum)
            return True
        return False

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Its end; killed after ``seconds``, which counts as hung."""
        deadline, hung = time.monotonic() + seconds, False
        while not (self.notes / "end.json").exists():
            if time.monotonic() > deadline and not hung:
                hung = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid(), signal.SIGKILL)
            if hung and time.monotonic() > deadline + 10:
                return Ended(-9, "", "the process cannot be killed", seconds, 0.0, True)
            time.sleep(0.003)
        end = json.loads((self.notes / "end.json").read_text())
        out, err = ((self.notes / name).read_text(errors="surrogateescape") for name in ("out", "err"))
        shutil.rmtree(self.notes, ignore_errors=True)
        return Ended(end["code"], out, err, end["seconds"], end["mib"], hung)


@dataclass
class Context:
    """One run of the harness. ``folder`` is temporary; ``quick`` asks for a few seconds per attack; ``seconds`` is the
    budget of the attack that runs now."""

    folder: Path
    seed: int = 0
    quick: bool = False
    seconds: float = 120.0
    began: float = field(default_factory=time.monotonic)
    numbers: Any = field(default_factory=itertools.count)

    @property
    def is_over(self) -> bool:
        """Whether the budget of this attack is used up."""
        return time.monotonic() - self.began > self.seconds

    def size(self, full: int, quick: int) -> int:
        """How many, in the full and in the quick form."""
        return quick if self.quick else full

    def draw(self, name: str) -> random.Random:
        """Random numbers for one purpose."""
        return random.Random(f"{self.seed}-{name}")

    def fresh(self, name: str) -> Path:
        """A path of its own that does not exist yet."""
        return self.folder / f"{name}-{next(self.numbers)}"

    @cached_property
    def library(self) -> Path | None:
        """The compiled shim; None without a C compiler or outside Linux."""
        compiler = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
        if compiler is None or sys.platform != "linux":
            return None
        path = self.folder / "shim.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, SHIM, "-ldl"], check=True)
        return path

    def need_shim(self) -> None:
        """Skipped where no faults can be injected."""
        if self.library is None:
            raise Skipped("needs Linux and a C compiler for the shim that injects faults")

    @cached_property
    def server(self) -> subprocess.Popen[str]:
        """The warm process."""
        preload = {"LD_PRELOAD": str(self.library)} if self.library else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.proof.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=ROOT,
            env=os.environ | {"OMP_WAIT_POLICY": "passive"} | preload,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the warm process did not start")
        return process

    def start(
        self,
        words: Sequence[object],
        shim: Shim | None = None,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
        memory: int = 0,
    ) -> Command:
        """Start a `vitlab` command in the warm process. ``memory`` limits its address space, in bytes."""
        if shim is not None:
            self.need_shim()
        notes = self.fresh("notes")
        notes.mkdir()
        request = {
            "words": list(map(str, words)),
            "shim": shim and shim.values(),
            "cwd": str(cwd or self.folder),
            "environment": environment or {},
            "memory": memory,
            "notes": str(notes),
        }
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return Command(notes)

    def run(self, words: Sequence[object], shim: Shim | None = None, seconds: float = PATIENCE, **more: Any) -> Ended:
        """A `vitlab` command from its start to its end."""
        return self.start(words, shim, **more).wait(seconds)

    def close(self) -> None:
        """End the warm process, if it was started."""
        if "server" in self.__dict__:
            assert self.server.stdin is not None
            self.server.stdin.close()
            self.server.wait()

    def train(self, out: Path, *more: object) -> list[object]:
        """The words that begin the small training in ``out``, or continue it when its folder is complete enough."""
        if (out / "config.json").exists():
            return ["train", "--resume", out, "--quiet"]
        return ["train", *KNOBS, "--out", out, *more]

    @cached_property
    def unbroken(self) -> Path:
        """The folder of the small training that nothing has disturbed."""
        path = self.fresh("unbroken")
        log = path.with_suffix(".log")
        end = self.run(self.train(path), Shim(path, log=str(log)) if self.library else None)
        if end.code != 0:
            raise RuntimeError(f"the undisturbed training failed: {end.err}")
        return path

    @cached_property
    def calls(self) -> list[list[str]]:
        """The file-system calls of the unbroken training, in order: kind, path, second path."""
        self.need_shim()
        text = self.unbroken.with_suffix(".log").read_text()
        return [line.split("\t") for line in text.splitlines()]

    @cached_property
    def trace(self) -> Figures:
        """What every disturbed training must end with."""
        return trace(self.unbroken)

    @cached_property
    def unfinished(self) -> Path:
        """The folder of the small training, killed in the middle of an epoch."""
        path = self.fresh("unfinished")
        writes = [number for number, call in enumerate(self.calls, start=1) if call[0] == "w"]
        end = self.run(self.train(path), Shim(path, at=writes[len(writes) // 2], action=-signal.SIGKILL))
        if end.code != -signal.SIGKILL:
            raise RuntimeError(f"the training was not killed: {end}")
        return path

    def copy(self, folder: Path, name: str = "copy") -> Path:
        """A copy of a run folder that an attack may damage."""
        path = self.fresh(name)
        shutil.copytree(folder, path, symlinks=True)
        return path

    def each(self, attack: Callable[[T], R], cases: Iterable[T]) -> list[R]:
        """The results of ``attack`` for all cases, two at a time; cases beyond the time budget are left out."""
        with ThreadPoolExecutor(WORKERS) as pool:
            results = pool.map(lambda case: None if self.is_over else [attack(case)], cases)
            return [result[0] for result in results if result is not None]


def trace(run: Path) -> Figures:
    """The part of a finished run folder that does not depend on time; what is wrong, if it is not finished."""
    try:
        result = json.loads((run / "result.json").read_text())
        rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        return {"unreadable": str(error)}
    history = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    return {"sha256": result.get("model_sha256"), "top1": result.get("test_top1"), "history": history}


def reseal(run: Path) -> None:
    """Give a changed run folder digests that fit, as its author could: those of its files in environment.json and
    result.json, and their own. Folders without such digests stay as they are."""
    for name in ("environment.json", "result.json"):
        path = run / name
        values = json.loads(path.read_text()) if path.is_file() else {}
        if "format" in values and "sha256" in values:
            files = {one: sha256((run / one).read_bytes()) for one in values["files"] if (run / one).is_file()}
            inner = {one: value for one, value in values.items() if one != "sha256"} | {"files": files}
            own = sha256(json.dumps(inner, sort_keys=True, separators=(",", ":")).encode())
            path.write_text(json.dumps(inner | {"sha256": own}))


def sha256(data: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def finish(context: Context, out: Path, *more: object) -> str:
    """Continue (or begin again) the training in ``out``; what is wrong with its end, or nothing."""
    end = context.run(context.train(out, *more))
    if end.code != 0:
        return f"not resumable: exit {end.code}, {shown(end)}"
    if trace(out) != context.trace:
        return "not bit-equal: weights or history differ from the unbroken run's"
    left = [path.name for path in out.rglob("*.tmp")]
    return f"leftover: {left[0]} stays in the run folder" if left else ""


def shown(end: Ended) -> str:
    """The last line of an end, short and without paths that differ each time."""
    return "".join(letter if letter.isprintable() else "?" for letter in end.last_line)[:160]


def figures(failures: Iterable[str], attacked: int, **more: Any) -> Figures:
    """The result of an attack; ``failures`` may hold empty lines for cases that held."""
    lines = [line for line in failures if line]
    return {"attacked": attacked, "held": max(0, attacked - len(lines)), "failures": lines, **more}


def kind_of(line: str) -> str:
    """What a failure is about, without the place: the words before the first colon, numbers as #."""
    return re.sub(r"\d+", "#", line.partition(":")[0])


def kinds_of(failures: Iterable[str]) -> dict[str, int]:
    """How often each kind of failure occurs, in the order of their first."""
    return dict(Counter(map(kind_of, failures)))
