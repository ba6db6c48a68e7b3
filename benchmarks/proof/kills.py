"""A training that is killed at random moments, some several times: the same line again leads to the same weights."""

from __future__ import annotations

import shutil
import signal
import time

from benchmarks.proof.context import Context, Figures, figures, finish


def attack(context: Context) -> Figures:
    """SIGKILL after random delays; every second run is killed up to four times."""
    draw = context.draw("kills")
    began = time.monotonic()
    out = context.fresh("timing")
    context.run(context.train(out))
    duration = time.monotonic() - began
    cases = [
        [draw.uniform(0.0, duration) for _ in range(1 + number % 2 * draw.randint(1, 3))]
        for number in range(context.size(60, 4))
    ]
    met = []

    def kill(delays: list[float]) -> str:
        out = context.fresh("kill")
        for delay in delays:
            command = context.start(context.train(out))
            command.pid()
            time.sleep(delay)
            met.append(command.send(signal.SIGKILL))
            command.wait()
        wrong = finish(context, out)
        shutil.rmtree(out, ignore_errors=True)
        return wrong and f"{wrong}, after SIGKILL at {', '.join(f'{delay:.3f} s' for delay in delays)}"

    failures = context.each(kill, cases)
    return figures(failures, len(failures), kills=sum(met))
