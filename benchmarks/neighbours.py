"""Training speed beside other programs: how much of its quiet speed a training keeps.

    python -m benchmarks.neighbours [PRESET ...] --out benchmarks/results/NAME.json
    python -m benchmarks.neighbours --other FOLDER ...      a second checkout of vitlab, in turn with this one
    python -m benchmarks.neighbours --show benchmarks/results/NAME.json

Each preset trains in a process of its own, on MNIST, and waits without computing while others have their turn. In each
round every preset trains alone, beside one process that computes without pause, beside one such process for each core,
and beside another training of the same preset. A share is the speed divided by the speed alone in the same round. The
system decides who gets which core: nothing is pinned.

With two cores, two threads that share them fairly with one busy process would keep 75 %, and 50 % beside two busy
processes or another training.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.steps import set_up, whole_step
from benchmarks.timing import carry_out, circumstances, contestant, markdown, options, quartiles, spread
from vitlab.machine import environment
from vitlab.runs.session import origin

HERE = Path(__file__).parents[1]
DEFAULT = ("small", "fast")
# What must be kept of the quiet speed, in percent.
BARS = {"alone": 100, "beside one busy process": 60, "beside one a core": 40, "beside another training": 40}
SETTLE = 0.3  # seconds, until the system has noticed the neighbours
BUSY = "while True: pass"


class Trainer:
    """A process that trains a preset with the code in ``folder`` when it is told to."""

    def __init__(self, name: str, folder: Path, threads: int | None, quick: bool) -> None:
        paths = [str(folder / "src"), str(folder)]
        command = [sys.executable, "-P", __file__, "--child", name, json.dumps({"threads": threads, "quick": quick})]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self.about = self.answer()

    def answer(self) -> Any:
        """What the process says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a training ended early, with exit code {self.process.wait()}")
        return json.loads(line)

    def begin(self, seconds: float) -> None:
        """Train for about ``seconds``."""
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)

    def rate(self, seconds: float) -> float:
        """Images per second while it trains for about ``seconds``."""
        self.begin(seconds)
        return float(self.answer())

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def child(name: str, settings: dict[str, Any]) -> int:
    """Train when a line of standard input says for how many seconds; answer with images per second."""
    small: dict[str, Any] = {"batch_size": 32} if settings["quick"] else {}
    bench = set_up(contestant(name, data="mnist", force_flip=True, threads=settings["threads"], **small))
    batch = bench.prepared.config.train.batch_size
    for _ in range(5):
        whole_step(bench)
    print(json.dumps({"environment": environment(bench.task.machine) | origin(), "batch_size": batch}), flush=True)
    for line in sys.stdin:
        begun, steps = time.perf_counter(), 0
        while time.perf_counter() - begun < float(line) or not steps:
            whole_step(bench)
            steps += 1
        print(batch * steps / (time.perf_counter() - begun), flush=True)
    return 0


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """``count`` processes compute without pause."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(count)]
    try:
        time.sleep(SETTLE)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def one_round(trainer: Trainer, other: Trainer, seconds: float) -> dict[str, float]:
    """Images per second alone and beside each kind of neighbours."""
    rates = {"alone": trainer.rate(seconds)}
    for name, count in (("beside one busy process", 1), ("beside one a core", os.cpu_count() or 1)):
        with busy_processes(count):
            rates[name] = trainer.rate(seconds)
    other.begin(seconds + 2 * SETTLE)
    time.sleep(SETTLE)
    rates["beside another training"] = trainer.rate(seconds)
    other.answer()
    return rates


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All presets of this code, and of the other if there is one, in turn."""
    folders = {"this": HERE} | ({"other": arguments.other.resolve()} if arguments.other else {})
    rounds, turn = (2, 0.05) if arguments.quick else (arguments.rounds, arguments.turn)
    with ExitStack() as ending:

        def started(name: str, folder: Path) -> Trainer:
            trainer = Trainer(name, folder, arguments.threads, arguments.quick)
            ending.callback(trainer.end)
            return trainer

        pairs = {
            (preset, code): (started(preset, folder), started(preset, folder))
            for preset in arguments.presets
            for code, folder in folders.items()
        }
        taken: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in pairs}
        for number in range(rounds):
            for key, (trainer, other) in pairs.items():
                taken[key].append(one_round(trainer, other, turn))
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        rows = [
            {"preset": key[0], "code": key[1]} | pairs[key][0].about | summary(values) for key, values in taken.items()
        ]
    settings = {"rounds": rounds, "turn_seconds": turn, "quick": arguments.quick, "cores": os.cpu_count()}
    return {"environment": rows[0]["environment"], "settings": settings, "rows": rows}


def summary(values: list[dict[str, float]]) -> dict[str, Any]:
    """Images per second and shares, by neighbours."""
    return {
        "images_per_second": {name: quartiles([one[name] for one in values]) for name in BARS},
        "shares": {name: quartiles([one[name] / one["alone"] for one in values]) for name in BARS},
    }


def report(measured: dict[str, Any]) -> str:
    """The table: images per second alone, and what is kept beside others."""
    head = ["preset", "images/s alone", *(name for name in BARS if name != "alone")]
    two = len({row["code"] for row in measured["rows"]}) > 1
    rows, lines = [], []
    for row in measured["rows"]:
        commit = row["environment"]["git_commit"]
        name = f"`{row['preset']}`" + (f", {row['code']} code ({commit[:7] if commit else 'no commit'})" if two else "")
        kept = [f"{spread(row['shares'][name], 100, 0)} %" for name in BARS if name != "alone"]
        rows.append([name, spread(row["images_per_second"]["alone"], digits=0), *kept])
        under = [f"{name} ({bar} %)" for name, bar in BARS.items() if 100 * row["shares"][name]["median"] < bar - 0.5]
        if under and row["code"] == "this":
            lines.append(f"`{row['preset']}` keeps less than we ask for: {', '.join(under)}.")
    return "\n".join([markdown(head, rows), "", *lines, circumstances(measured["environment"])])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], json.loads(sys.argv[3]))
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", default=list(DEFAULT), help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument(
        "--other", type=Path, metavar="FOLDER", help="another checkout, which takes turns with this one"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=1.5, metavar="SECONDS", help="about how long each turn takes")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
