"""How a training run looks while it goes on: a live bar on a terminal, a line an epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from vitlab.runs.session import Reporter
from vitlab.training.step import Counters, Row, Task

REFRESH_SECONDS = 0.2


def choose_reporter(quiet: bool) -> Reporter:
    """What suits standard error."""
    if quiet or sys.stderr is None:  # as it is with `2>&-`
        return Reporter()
    if not sys.stderr.isatty():
        print_line = partial(print, file=sys.stderr, flush=True)
        return Reporter(note=print_line, epoch=lambda task, row: print_line(epoch_line(task, row)))
    bar = LiveBar()
    return Reporter(bar.note, bar.begin, bar.step, bar.epoch, bar.end)


def epoch_line(task: Task, row: Row) -> str:
    """A history row for people."""
    epochs = f"{task.config.train.epochs:g}"
    number = f"epoch {row['epoch']:>{len(epochs)}}/{epochs}"
    parts = [number, f"loss {row['train_loss']:.4f}", f"top-1 {100 * row['train_top1']:.2f} %"]
    if row["val_top1"] is not None:
        loss = "not finite" if row["val_loss"] is None else f"{row['val_loss']:.4f}"
        parts += [f"validation loss {loss}", f"top-1 {100 * row['val_top1']:.2f} %"]
    return "  ".join([*parts, f"{row['train_seconds']:.1f} s"])


class LiveBar:
    """A bar with loss, accuracy, speed and time left; finished epochs scroll by above it."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
        )
        console = Console(stderr=True, highlight=False)
        self.bar = Progress(*columns, console=console, transient=True, auto_refresh=False, expand=True)
        self.line: TaskID | None = None
        self.shown_at = 0.0

    def note(self, line: str) -> None:
        """Print it above the bar."""
        self.bar.console.print(line, markup=False, soft_wrap=True)

    def begin(self, task: Task) -> None:
        """Show the bar."""
        self.line = self.bar.add_task("starting", total=task.total_steps, numbers="")
        self.bar.start()

    def step(self, task: Task, counters: Counters, sums: Tensor) -> None:
        """Move the bar, if it is time."""
        now = time.monotonic()
        if self.line is None or now - self.shown_at < REFRESH_SECONDS:
            return
        self.shown_at = now
        epoch = len(counters.rows)
        seen = task.images_in(counters.step) - epoch * len(task.train)
        rate = (self.bar.tasks[0].speed or 0.0) * task.config.train.batch_size
        loss, share = (sums / seen).tolist()
        top1 = 100 * share
        numbers = f"loss {loss:.3f}  top-1 {top1:.2f} %  {rate:,.0f} images/s "
        description = f"epoch {epoch + 1}/{task.config.train.epochs:g}"
        self.bar.update(self.line, completed=counters.step, description=description, numbers=numbers, refresh=True)

    def epoch(self, task: Task, row: Row) -> None:
        """Print it above the bar."""
        self.note(epoch_line(task, row))

    def end(self) -> None:
        """Take the bar away."""
        self.bar.stop()
