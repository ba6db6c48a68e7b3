"""A training that is killed at a file-system call: the same line again must lead to the same weights."""

from __future__ import annotations

import shutil
import signal

from benchmarks.proof.context import Context, Figures, Shim, figures, finish


def spread(count: int, wanted: int) -> list[int]:
    """About ``wanted`` numbers from 1 to ``count``, evenly spaced, with both ends; a single one in the middle."""
    if wanted >= count:
        return list(range(1, count + 1))
    if wanted == 1:
        return [1 + count // 2]
    return sorted({1 + round(number * (count - 1) / (wanted - 1)) for number in range(wanted)})


def attack(context: Context) -> Figures:
    """SIGKILL at calls spread over the whole training; a write that is killed leaves half of its bytes."""
    calls = context.calls
    points = spread(len(calls), context.size(140, 10))

    def kill(number: int) -> str:
        kind, path, _ = calls[number - 1]
        out = context.fresh("crash")
        where = f"call {number} ({kind} {path.removeprefix(str(context.unbroken))})"
        end = context.run(context.train(out), Shim(out, at=number, action=-signal.SIGKILL))
        if end.code != -signal.SIGKILL:
            return f"not killed: {where} ended with {end.code}"
        wrong = finish(context, out)
        shutil.rmtree(out, ignore_errors=True)
        return wrong and f"{wrong}, after SIGKILL at {where}"

    failures = context.each(kill, points)
    return figures(failures, len(failures), calls=len(calls))
