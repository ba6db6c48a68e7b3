"""Progress of a run or a study on standard error: live on a terminal, otherwise a line at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich import progress as bars
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from torch import Tensor

from vitlab.runs.session import Reporter
from vitlab.studies.driver import Progress
from vitlab.studies.driver import Row as StudyRow
from vitlab.studies.summary import accuracy_of, split_of
from vitlab.text import counted, duration, percent, printable, say
from vitlab.training.step import Counters, Row, Task

REFRESH_SECONDS = 0.2
LAST_ROWS = 8  # of a study that a live table shows


def choose_reporter(quiet: bool) -> Reporter:
    """The progress of a run."""
    if quiet or sys.stderr is None:  # as after `2>&-`
        return Reporter()
    if not sys.stderr.isatty():
        return Reporter(note=say, epoch=lambda task, row: say(epoch_line(task, row)))
    bar = LiveBar()
    return Reporter(bar.note, bar.begin, bar.step, lambda task, row: bar.note(epoch_line(task, row)), bar.bar.stop)


def epoch_line(task: Task, row: Row) -> str:
    """A row of the history for people."""
    epochs = f"{task.config.train.epochs:g}"
    number = f"epoch {row['epoch']:>{len(epochs)}}/{epochs}"
    loss = "weighted loss" if row.get("train_loss_weighted") else "loss"
    parts = [number, f"{loss} {row['train_loss']:.4f}", f"top-1 {percent(row['train_top1'])}"]
    if row["val_top1"] is not None:
        loss = "not finite" if row["val_loss"] is None else f"{row['val_loss']:.4f}"
        parts += [f"validation loss {loss}", f"top-1 {percent(row['val_top1'])}"]
    return "  ".join([*parts, f"{row['train_seconds']:.1f} s"])


class LiveBar:
    """A bar with loss, accuracy, speed and time left; notes scroll by above it."""

    def __init__(self) -> None:
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=None),
            bars.TextColumn("{task.fields[numbers]}"),
            bars.TimeRemainingColumn(compact=True),
        )
        console = Console(stderr=True, highlight=False)
        self.bar = bars.Progress(*columns, console=console, transient=True, auto_refresh=False, expand=True)
        self.line: bars.TaskID | None = None
        self.shown_at = 0.0

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(printable(line), markup=False, soft_wrap=True)

    def begin(self, task: Task) -> None:
        """Show the bar."""
        self.line = self.bar.add_task("starting", total=task.total_steps, numbers="")
        self.bar.start()

    def step(self, task: Task, counters: Counters, sums: Tensor) -> None:
        """Move the bar, a few times a second."""
        now = time.monotonic()
        if self.line is None or now - self.shown_at < REFRESH_SECONDS:
            return
        self.shown_at = now
        epoch = len(counters.rows)
        seen = task.images_in(counters.step) - epoch * len(task.train)
        rate = (self.bar.tasks[0].speed or 0.0) * task.config.train.batch_size
        loss, top1 = (sums / seen).tolist()
        numbers = f"loss {loss:.3f}  top-1 {percent(top1)}  {rate:,.0f} images/s "
        description = f"epoch {epoch + 1}/{task.config.train.epochs:g}"
        self.bar.update(self.line, completed=counters.step, description=description, numbers=numbers, refresh=True)


@contextmanager
def choose_watch(quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Progress], None]]]:
    """The progress of a study: functions that take a message, and the state of the study."""
    if quiet or sys.stderr is None:
        yield (lambda line: None), (lambda progress: None)
    elif sys.stderr.isatty():
        console = Console(stderr=True, highlight=False)
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            note = partial(console.print, markup=False, soft_wrap=True)
            yield lambda line: note(printable(line)), lambda progress: live.update(live_table(progress))
    else:
        yield say, Lines().show


class Lines:
    """Prints each run of a study once, when it has ended."""

    def __init__(self) -> None:
        self.printed: set[tuple[str, int]] | None = None  # cells and seeds

    def show(self, progress: Progress) -> None:
        """A line for what has ended since the last call; at the start, one for what was done before."""
        ended = {(row["cell"], row["seed"]): row for row in progress.rows}
        if self.printed is None:
            say(f"{len(ended)} of {progress.total} runs were done before" if ended else counted(progress.total, "run"))
        for job in ended.keys() - (ended.keys() if self.printed is None else self.printed):
            say(f"{study_line(progress)}: {row_line(ended[job], progress.split)}")
        self.printed = set(ended)


def study_line(progress: Progress) -> str:
    """Runs ended, runs failed, time left."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"{len(progress.rows)}/{progress.total} ended{failed}{left}"


def row_line(row: StudyRow, wanted: str) -> str:
    """The result of a run of a study, by the split ``wanted`` or, where that has no images, by validation images."""
    name = printable(f"{row['cell']}, seed {row['seed']}")
    if row["status"] != "done":
        return f"{name}: {row['status']}" + (f": {printable(row['log'][-1])}" if row.get("log") else "")
    split = split_of([row], wanted)
    score = accuracy_of(row, split)
    accuracy = "" if score is None else f" {percent(score)} of {split} images"
    return f"{name}:{accuracy} in {duration(row['train_seconds'])}"


def live_table(progress: Progress) -> Table:
    """The runs that ended last, and those in progress."""
    table = Table(title=study_line(progress), title_justify="left", show_header=False)
    for row in progress.rows[-LAST_ROWS:]:
        table.add_row("done" if row["status"] == "done" else "[red]failed[/red]", Text(row_line(row, progress.split)))
    for name in progress.running:
        table.add_row("running", Text(printable(name)))
    return table
