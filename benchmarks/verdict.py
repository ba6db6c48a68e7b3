"""Tables and statistics from the runs of a duel."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from scipy import stats

from vitlab.text import counted

Run = dict[str, Any]
BARS = (0.98, 0.99, 0.995)
NEVER = "never"


def seconds_to(run: Run, bar: float) -> float | None:
    """Training seconds at the end of the first epoch whose test accuracy is at least ``bar``; None if there is none.

    Picking the first epoch that is good enough on the test images favours a contestant, so use this for opponents.
    """
    return next((row["train_seconds"] for row in run["epochs"] if row["test_top1"] >= bar), None)


def exceeds(values: list[float], bar: float) -> float:
    """p of a one-sided t-test: probability of a mean this high if the true mean were ``bar``."""
    return float(stats.ttest_1samp(values, bar, alternative="greater").pvalue)


def ratio_interval(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float, float]:
    """Median over seeds of theirs / ours, for runs of the same seed, with its 95 % bootstrap interval."""
    pairs = np.array([theirs[seed] / ours[seed] for seed in sorted(ours.keys() & theirs.keys())])
    draws = np.random.default_rng(0).choice(pairs, size=(4000, len(pairs)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(pairs)), float(low), float(high)


def mean_sd(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation as text."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def difference(pairs: list[float]) -> str:
    """Mean of the differences between runs of the same seed, with its standard error, as text."""
    if not pairs:
        return ""
    mean = f"{statistics.mean(pairs):+.2f}"
    return f"{mean} ± {statistics.stdev(pairs) / len(pairs) ** 0.5:.2f}" if len(pairs) > 1 else mean


def table(runs: list[Run], against: str) -> str:
    """A Markdown table with one line per contestant, compared with the contestant ``against``; times are medians. A
    column that says nothing about any contestant is left out, such as the seconds to an accuracy that none reached."""
    names = list(dict.fromkeys(run["contestant"] for run in runs))
    theirs = [run for run in runs if run["contestant"] == against]
    rows = [cells(name, [run for run in runs if run["contestant"] == name], theirs, against) for name in names]
    head = tuple(column for column in rows[0] if any(row[column] not in ("", NEVER) for row in rows))
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    lines += ["| " + " | ".join(row[column] for column in head) + " |" for row in rows]
    counts = {len([run for run in runs if run["contestant"] == name]) for name in names}
    seeds = " or ".join(counted(count, "seed") for count in sorted(counts)) + (" each" if len(names) > 1 else "")
    lines += ["", f"{seeds}{', ± standard deviation over them' if max(counts) > 1 else ''}."]
    if theirs and len(names) > 1:
        lines += [
            f"More accurate: by how many points than `{against}` with the same seed; mean ± standard error.",
            f"Times faster: training time of `{against}` divided by the contestant's, for runs of the same seed;",
            "median with its 95 % interval.",
        ]
    lines += [f"Seconds are medians and count training steps only. {circumstances(runs)}"]
    return "\n".join(lines)


def circumstances(runs: list[Run]) -> str:
    """Machine, threads and dates of the runs, in a sentence."""
    own: Any = next((run["about"]["environment"] for run in runs if "environment" in run["about"]), None)
    dates = " and ".join(sorted({str(run["started_utc"])[:10] for run in runs}))
    if own is None:
        return dates
    rates = [run["gemm_gflops_before"] for run in runs]
    threads = counted(own["threads"], "thread")
    where = f"{own['device_name']}, {threads}, {own['precision']}, torch {own['torch']}, {dates}"
    ceiling = f"a 1024 x 1024 product before each run reached {min(rates):.0f} to {max(rates):.0f} GFLOP/s"
    return f"{where}, on a shared machine; {ceiling}."


def cells(name: str, own: list[Run], theirs: list[Run], against: str) -> dict[str, str]:
    """One line of the table, by column."""
    top1 = [100 * run["epochs"][-1]["test_top1"] for run in own]
    shifted = [100 * run["end"]["test_top1_shifts"] for run in own if "test_top1_shifts" in run["end"]]
    flipped = [100 * run["end"]["test_top1_shifts_flips"] for run in own if mirrors(run)]
    bars = {run["seed"]: 100 * run["epochs"][-1]["test_top1"] for run in theirs}
    pairs = [x - bars[run["seed"]] for x, run in zip(top1, own, strict=True) if run["seed"] in bars]
    about = own[0]["about"]
    parameters = about["parameters"]
    total = sum(parameters.values()) if isinstance(parameters, dict) else parameters
    epochs = about["config"]["train"]["epochs"] if "config" in about else len(own[0]["epochs"])
    return {
        "contestant": f"`{name}`",
        "parameters": f"{total:,}",
        "epochs": f"{epochs:g}",
        "seeds": str(len(own)),
        "test top-1 %": mean_sd(top1),
        "more accurate": "" if name == against else difference(pairs),
        "with shifts": mean_sd(shifted) if shifted else "",
        "with shifts and flips": mean_sd(flipped) if flipped else "",
        "lowest": f"{min(top1):.2f}",
        "p (mean ≤ 99.0)": f"{exceeds(top1, 99.0):.1g}" if len(own) > 2 and max(top1) >= 98.0 else "",
        "training s": f"{statistics.median(run['epochs'][-1]['train_seconds'] for run in own):.1f}",
        "images/s": f"{statistics.median(map(images_per_second, own)):,.0f}",
        **{f"s to {100 * bar:g} %": reached([seconds_to(run, bar) for run in own]) for bar in BARS},
        **(dict.fromkeys(FASTER, "") if name == against else faster(own, theirs)),
    }


def mirrors(run: Run) -> bool:
    """Whether a run trained on mirrored images, so that mirroring the test images makes sense."""
    return "test_top1_shifts_flips" in run["end"] and bool(run["about"]["config"]["augment"]["flip"])


def images_per_second(run: Run) -> float:
    """Training images per training second; Keras programs print it for each epoch."""
    rows = run["epochs"]
    if "images_per_second" in rows[-1]:
        return float(statistics.median(row["images_per_second"] for row in rows))
    return float(rows[-1]["steps"] * run["about"]["config"]["train"]["batch_size"] / rows[-1]["train_seconds"])


def reached(times: list[float | None]) -> str:
    """The median of the times, and how many runs have one."""
    found = [time for time in times if time is not None]
    share = "" if len(found) == len(times) else f" ({len(found)} of {len(times)})"
    return f"{statistics.median(found):.1f}{share}" if found else NEVER


FASTER = ("times faster", "times faster, to 99.0 %")


def faster(own: list[Run], theirs: list[Run]) -> dict[str, str]:
    """How many times as long ``theirs`` take as ``own``: to their end, and to their first epoch at 99.0 %."""
    ours = {run["seed"]: run["epochs"][-1]["train_seconds"] for run in own}
    to_end = {run["seed"]: run["epochs"][-1]["train_seconds"] for run in theirs}
    to_bar = {run["seed"]: time for run in theirs if (time := seconds_to(run, 0.99)) is not None}
    found = dict.fromkeys(FASTER, "")
    for column, times in zip(FASTER, (to_end, to_bar), strict=True):
        if ours.keys() & times.keys():
            middle, low, high = ratio_interval(ours, times)
            found[column] = f"{middle:.1f} ({low:.1f} to {high:.1f})"
    return found
