"""Attack vitlab and write what held: `python -m benchmarks.proof [ATTACK ...]`.

    --quick          a few seconds for each attack, as the tests of the harness itself use
    --out FILE       the figures as JSON (benchmarks/results/proof-NAME.json); attacks that are not named keep theirs
    --minutes M      the sum of the time budgets (40); an attack stops when its share is used up

Exits with 1 if anything failed. Each failure is one line in the file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.proof.context import ROOT, Context, Figures, Skipped, kind_of, kinds_of
from vitlab.files import read_json, write_json

# Each attack is a file here; its share of the time, which is a limit and not a wish.
ATTACKS = {
    "crash": 3,
    "disk": 3,
    "order": 1,
    "flips": 18,
    "kills": 2,
    "study": 5,
    "signals": 2,
    "starts": 2,
    "hostile": 4,
    "forged": 2,
    "http": 2,
    "access": 1,
    "slow": 2,
    "soak": 15,
    "busy": 3,
    "planted": 8,
}
QUICK_SECONDS = 120.0  # a limit that only a busy machine meets
SHOWN_FAILURES = 50  # of one kind, in the file


def run_attack(name: str, context: Context) -> Figures:
    """The figures of one attack; one that breaks has failed."""
    context.began = time.monotonic()
    try:
        found: Figures = import_module(f"benchmarks.proof.{name}").attack(context)
    except Skipped as reason:
        found = {"skipped": str(reason), "attacked": 0, "held": 0, "failures": []}
    except Exception as error:
        traceback.print_exc()
        line = f"broken: the attack itself failed ({type(error).__name__}: {error})"
        found = {"attacked": 0, "held": 0, "failures": [line]}
    private = {str(context.folder): "...", f"{ROOT}/": "", str(Path.home()): "~"}
    for text, public in private.items():
        found["failures"] = [line.replace(text, public) for line in found["failures"]]
    kinds = kinds_of(found["failures"])
    shown = [
        line for kind in kinds for line in [one for one in found["failures"] if kind_of(one) == kind][:SHOWN_FAILURES]
    ]
    return found | {
        "failures": shown,
        "kinds": kinds,
        "quick": context.quick,
        "seconds": round(time.monotonic() - context.began, 1),
    }


def told(name: str, found: Figures) -> str:
    """One line for standard error."""
    if "skipped" in found:
        return f"{name}: skipped: {found['skipped']}"
    return f"{name}: {found['held']} of {found['attacked']} held, {found['seconds']:.0f} s"


def about(seed: int) -> dict[str, Any]:
    """Under which circumstances: commit, machine, date, versions."""
    import torch

    from vitlab.processor import cpu_name

    git = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "seed": seed,
        "commit": commit or None,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": " ".join(os.uname()[:3:2]),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }


def main() -> int:
    """Run the attacks, write the file after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description="Attack vitlab; write what held.")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if unknown := [name for name in options.attacks if name not in ATTACKS]:
        parser.error(f"there is no attack {unknown[0]!r}; there are {', '.join(ATTACKS)}")
    now = about(options.seed)
    measured: dict[str, Any] = {"about": now, "attacks": {}}
    if options.out and options.attacks and options.out.exists():
        measured = read_json(options.out)  # what is not attacked again keeps its figures and its commit
    failed = 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends what was started, too
    with tempfile.TemporaryDirectory(prefix="vitlab-proof-", ignore_cleanup_errors=True) as folder:
        context = Context(Path(folder).resolve(), options.seed, options.quick)
        try:
            for name in options.attacks or ATTACKS:
                share = 60.0 * options.minutes * ATTACKS[name] / sum(ATTACKS.values())
                context.seconds = QUICK_SECONDS if options.quick else share
                found = run_attack(name, context)
                failed += len(found["failures"])
                measured["attacks"][name] = found | {"commit": now["commit"]}
                print(told(name, found), *found["failures"][:20], sep="\n    ", file=sys.stderr, flush=True)
                if options.out:
                    write_json(options.out, measured)
        finally:
            context.close()
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
