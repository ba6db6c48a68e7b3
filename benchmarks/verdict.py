"""From the runs of a duel to what may be said about them."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from scipy import stats

Run = dict[str, Any]
BARS = (0.98, 0.99, 0.995)


def seconds_to(run: Run, bar: float) -> float | None:
    """Training seconds at the end of the first epoch whose test accuracy is at least ``bar``; None if there is none.

    Looking at the test images after each epoch favours a contestant that is read this way: use it for opponents.
    """
    return next((row["train_seconds"] for row in run["epochs"] if row["test_top1"] >= bar), None)


def exceeds(values: list[float], bar: float) -> float:
    """p of a one-sided t-test: how likely so high a mean is if the true one were ``bar`` or less."""
    return float(stats.ttest_1samp(values, bar, alternative="greater").pvalue)


def ratio_interval(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float, float]:
    """Median over seeds of theirs / ours, pairs run side by side, with its 95 % bootstrap interval."""
    pairs = np.array([theirs[seed] / ours[seed] for seed in sorted(ours.keys() & theirs.keys())])
    draws = np.random.default_rng(0).choice(pairs, size=(4000, len(pairs)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(pairs)), float(low), float(high)


def mean_sd(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def table(runs: list[Run], against: str) -> str:
    """A Markdown table: one line a contestant, times as medians, ``against`` the one they are compared with."""
    names = list(dict.fromkeys(run["contestant"] for run in runs))
    theirs = [run for run in runs if run["contestant"] == against]
    head = ["contestant", "parameters", "epochs", "seeds", "test top-1 %", "with shifts", "lowest", "p (mean ≤ 99.0)"]
    head += ["training s", *(f"s to {100 * bar:g} %" for bar in BARS), "times faster"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for name in names:
        own = [run for run in runs if run["contestant"] == name]
        lines.append("| " + " | ".join(cells(name, own, theirs, against)) + " |")
    lines += [
        "",
        f"times faster: training seconds of `{against}` divided by those of the contestant, run side by side:",
    ]
    lines[-1] += " to the end, and to its first epoch at 99.0 %; median over seeds with its 95 % interval."
    return "\n".join(lines)


def fill(page: str, name: str, made: str) -> str:
    """``page`` with ``made`` between its lines `<!-- name -->` and `<!-- /name -->`; ValueError if they are missing."""
    before, opening, rest = page.partition(f"<!-- {name} -->")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    if not closing:
        raise ValueError(f"the page has no place for {name}")
    return f"{before}{opening}\n{made}\n{closing}{after}"


def circumstances(runs: list[Run]) -> str:
    """Machine, threads and date of runs, in a sentence."""
    own: Any = next((run["about"]["environment"] for run in runs if "environment" in run["about"]), None)
    dates = " and ".join(sorted({str(run["started_utc"])[:10] for run in runs}))
    if own is None:
        return dates
    rates = [run["gemm_gflops_before"] for run in runs]
    where = f"{own['device_name']}, {own['threads']} threads, {own['precision']}, torch {own['torch']}, {dates}"
    ceiling = f"a product of 1024 x 1024 before each run: {min(rates):.0f} to {max(rates):.0f} GFLOP/s"
    return f"{where}, on a shared machine; {ceiling}."


def cells(name: str, own: list[Run], theirs: list[Run], against: str) -> list[str]:
    """The cells of one line."""
    top1 = [100 * run["epochs"][-1]["test_top1"] for run in own]
    shifted = [100 * run["end"]["test_top1_shifts"] for run in own if "test_top1_shifts" in run["end"]]
    about = own[0]["about"]
    parameters = about["parameters"]
    total = sum(parameters.values()) if isinstance(parameters, dict) else parameters
    seconds = [run["epochs"][-1]["train_seconds"] for run in own]
    epochs = about["config"]["train"]["epochs"] if "config" in about else len(own[0]["epochs"])
    row = [f"`{name}`", f"{total:,}", f"{epochs:g}", str(len(own)), mean_sd(top1)]
    row += [mean_sd(shifted) if shifted else "", f"{min(top1):.2f}"]
    row += [f"{exceeds(top1, 99.0):.1g}" if len(own) > 2 else "", f"{statistics.median(seconds):.1f}"]
    for bar in BARS:
        times = [seconds_to(run, bar) for run in own]
        reached = [time for time in times if time is not None]
        share = "" if len(reached) == len(own) else f" ({len(reached)} of {len(own)})"
        row.append(f"{statistics.median(reached):.1f}{share}" if reached else "never")
    return [*row, "" if name == against or not theirs else faster(own, theirs)]


def faster(own: list[Run], theirs: list[Run]) -> str:
    """How many times as long the others take: to their end, and to their first epoch at 99.0 %."""
    ours = {run["seed"]: run["epochs"][-1]["train_seconds"] for run in own}
    to_end = {run["seed"]: run["epochs"][-1]["train_seconds"] for run in theirs}
    to_bar = {run["seed"]: time for run in theirs if (time := seconds_to(run, 0.99)) is not None}
    parts = []
    for what, times in (("end", to_end), ("99.0 %", to_bar)):
        if ours.keys() & times.keys():
            middle, low, high = ratio_interval(ours, times)
            parts.append(f"{middle:.1f} ({low:.1f} to {high:.1f}) to {what}")
    return ", ".join(parts)
