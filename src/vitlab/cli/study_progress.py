"""How a study looks while it goes on: a live table on a terminal, a line for each run elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from vitlab.studies.driver import Progress, Row

Note = Callable[[str], None]
Show = Callable[[Progress], None]
LAST_ROWS = 8


@contextmanager
def choose_watch(quiet: bool) -> Iterator[tuple[Note, Show]]:
    """What suits standard error: functions that take a line, and the state of the study."""
    if quiet or sys.stderr is None:
        yield (lambda line: None), (lambda progress: None)
    elif sys.stderr.isatty():
        console = Console(stderr=True, highlight=False)
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            yield console.print, lambda progress: live.update(live_table(progress))
    else:
        yield print_line, Lines().show


def print_line(line: str) -> None:
    """A line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


class Lines:
    """Says each ended run once."""

    def __init__(self) -> None:
        self.said: int | None = None

    def show(self, progress: Progress) -> None:
        """A line for what has ended since the last call; at the start, one for all that was there."""
        ended = len(progress.rows)
        if self.said is None:
            print_line(f"{ended} of {progress.total} runs were done before" if ended else f"{progress.total} runs")
        elif ended > self.said:
            newest = max(progress.rows, key=lambda row: row.get("ended_utc") or "")
            print_line(f"{summary(progress)}: {row_line(newest)}")
        self.said = ended


def summary(progress: Progress) -> str:
    """Done, failed, time left."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    left = progress.seconds_left
    time = f", about {duration(left)} left" if left else ""
    return f"{len(progress.rows)}/{progress.total} ended{failed}{time}"


def duration(seconds: float) -> str:
    """For people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def row_line(row: Row) -> str:
    """What came out of a run."""
    name = f"{row['cell']}, seed {row['seed']}"
    if row["status"] != "done":
        said = f": {row['log'][-1]}" if row.get("log") else ""
        return f"{name}: {row['status']}{said}"
    score = row["val_top1"] if row["test_top1"] is None else row["test_top1"]
    accuracy = "" if score is None else f" {100 * score:.2f} %"
    return f"{name}:{accuracy} in {row['train_seconds']:.1f} s"


def live_table(progress: Progress) -> Table:
    """The last runs that ended, those that run, and what is left."""
    table = Table(title=summary(progress), title_justify="left", show_header=False)
    for row in progress.rows[-LAST_ROWS:]:
        table.add_row("done" if row["status"] == "done" else "[red]failed[/red]", row_line(row))
    for name in progress.running:
        table.add_row("running", name)
    return table
