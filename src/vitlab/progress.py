"""Progress of a run or a study: live on a terminal, as one table in a notebook, otherwise a line at a time.

All but the notebook's table goes to standard error.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text
from torch import Tensor

from vitlab import html
from vitlab.runs.session import Reporter
from vitlab.studies.driver import Progress, why_failed
from vitlab.studies.driver import Row as StudyRow
from vitlab.studies.summary import accuracy_of, split_of
from vitlab.studies.unit import Whereabouts
from vitlab.text import counted, duration, percent, printable, say
from vitlab.training.step import Counters, Row, Task

REFRESH_SECONDS = 0.2
WIDE, NARROW = 88, 60  # columns: what all numbers need, and what a few need
NOTEBOOK_SECONDS = 0.5  # between two updates of a cell's output, each of which is a message to the browser
MONITORED = {"val_balanced_accuracy": "balanced", "val_macro_f1": "macro F1"}  # short, in the line of an epoch
TOLD_SECONDS = 60.0  # between two reports of what runs where, line by line
LAST_ROWS = 8  # of a study that a live table shows


def choose_reporter(quiet: bool) -> Reporter:
    """The progress of a run."""
    if quiet:
        return Reporter()
    if in_notebook():
        board = RunBoard()
        return Reporter(board.note, board.begin, board.step, board.epoch, board.end)
    if sys.stderr is None:  # as after `2>&-`
        return Reporter()
    if not sys.stderr.isatty():
        return Reporter(note=say, epoch=lambda task, row: say(epoch_line(task, row)))
    bar = LiveBar()
    return Reporter(bar.note, bar.begin, bar.step, bar.epoch, bar.bar.stop)


def epoch_line(task: Task, row: Row, width: int = WIDE) -> str:
    """A row of the history for people; shorter where fewer than WIDE columns are there."""
    epochs = str(math.ceil(task.config.train.epochs))
    number = f"epoch {row['epoch']:>{len(epochs)}}/{epochs}"
    if width < WIDE:
        top1 = row["train_top1"] if row["val_top1"] is None else row["val_top1"]
        kind = "top-1" if row["val_top1"] is None else "validation" if width >= NARROW else "val"
        return "  ".join([number, f"loss {row['train_loss']:,.4f}", f"{kind} {percent(top1)}", seconds_of(row)])
    loss = "weighted loss" if row.get("train_loss_weighted") else "loss"
    parts = [number, f"{loss} {row['train_loss']:,.4f}", f"top-1 {percent(row['train_top1'])}"]
    if row["val_top1"] is not None:
        loss = "not finite" if row["val_loss"] is None else f"{row['val_loss']:,.4f}"
        parts += [f"validation loss {loss}", f"top-1 {percent(row['val_top1'])}"]
        if (monitor := task.config.train.monitor) not in ("val_loss", "val_top1"):
            parts.append(f"{MONITORED[monitor]} {percent(row[monitor])}")
    return "  ".join([*parts, seconds_of(row)])


def seconds_of(row: Row) -> str:
    """The training time so far."""
    return f"{row['train_seconds']:.1f} s"


def live_numbers(loss: float, top1: float, rate: float, width: int) -> str:
    """The numbers next to the bar. In a narrow terminal the speed goes first, then the loss: epoch, bar and time left
    always stay."""
    parts = [f"loss {loss:.3f}"] if width >= NARROW else []
    parts.append(f"top-1 {percent(top1)}")
    return "  ".join([*parts, f"{rate:,.0f} images/s"] if width >= WIDE else parts)


def choose_notes(quiet: bool) -> Callable[[str], None]:
    """Where messages go that are not about the progress of a run or a study."""
    return (lambda line: None) if quiet else say


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. IPython is not imported: a kernel has done that."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class Area:
    """A part of a notebook's output that is written again and again: notes, and below them what ``content`` gives."""

    def __init__(self, content: Callable[[], list[str]]) -> None:
        self.content, self.notes, self.handle = content, list[str](), None
        self.shown_at = -NOTEBOOK_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether it is time for another update."""
        return time.monotonic() - self.shown_at >= NOTEBOOK_SECONDS

    def note(self, line: str) -> None:
        """Add a line to the notes."""
        self.notes.append(line)
        self.draw()

    def draw(self) -> None:
        """Show the present state."""
        import IPython.display

        display: Any = IPython.display.display
        self.shown_at = time.monotonic()
        notes = "".join(f'<div style="opacity:.75;font-size:90%">{html.text(line)}</div>' for line in self.notes)
        shown = {"text/html": html.block(notes, *self.content()), "text/plain": "\n".join(map(printable, self.notes))}
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)


class RunBoard:
    """A run in a notebook: its notes, a table of its epochs, a bar until it ends, and what is said at the end."""

    def __init__(self) -> None:
        self.area = Area(self.content)
        self.rows: list[list[str]] = []
        self.bar, self.has_ended, self.last = "", False, list[str]()

    def note(self, line: str) -> None:
        """Add a line, above the table or, at the end, below it."""
        (self.last if self.has_ended else self.area.notes).append(line)
        self.area.draw()

    def content(self) -> list[str]:
        """The table, which scrolls to its end if it is long, and what is below it."""
        heads = ["epoch", "training loss", "top-1", "validation loss", "top-1", "seconds"]
        unused = [place for place in (3, 4) if not any(row[place] for row in self.rows)]
        heads, *rows = [[cell for n, cell in enumerate(row) if n not in unused] for row in [heads, *self.rows]]
        scrolls = "max-height:20em;overflow:auto;display:flex;flex-direction:column-reverse"
        table = f'<div style="{scrolls}"><div>{html.table(heads, rows, 0)}</div></div>'
        return [table if self.rows else "", self.bar, *map(html.bold, self.last)]

    def begin(self, task: Task) -> None:
        """Show that training begins."""
        self.bar = bar_of(0, task.total_steps, "training begins")
        self.area.draw()

    def step(self, task: Task, counters: Counters, sums: Tensor) -> None:
        """Move the bar, a few times a second."""
        if self.area.is_due:
            loss, top1 = mean_so_far(task, counters, sums)
            words = f"epoch {len(counters.rows) + 1} of {math.ceil(task.config.train.epochs)}, loss {loss:.3f}"
            self.bar = bar_of(counters.step, task.total_steps, f"{words}, top-1 {percent(top1)}")
            self.area.draw()

    def epoch(self, task: Task, row: Row) -> None:
        """Add a row."""
        losses = ["" if row[name] is None else f"{row[name]:.4f}" for name in ("train_loss", "val_loss")]
        scores = ["" if row[name] is None else percent(row[name]) for name in ("train_top1", "val_top1")]
        epoch, seconds = f"{row['epoch']} of {math.ceil(task.config.train.epochs)}", f"{row['train_seconds']:.1f}"
        self.rows.append([epoch, losses[0], scores[0], losses[1], scores[1], seconds])
        self.area.draw()

    def end(self) -> None:
        """Take the bar away."""
        self.bar, self.has_ended = "", True
        self.area.draw()


class StudyBoard:
    """A study in a notebook: its notes, how many runs have ended, the last of them, and those in progress."""

    def __init__(self) -> None:
        self.area, self.progress = Area(self.content), Progress(0)

    def show(self, progress: Progress) -> None:
        """Show another state."""
        self.progress = progress
        if self.area.is_due:
            self.area.draw()

    def content(self) -> list[str]:
        """The bar, and a line for each run."""
        progress = self.progress
        if not progress.total:
            return []
        ended = [["" if row["status"] == "done" else "failed", row_line(row, progress.split)] for row in progress.rows]
        lines = ended[-LAST_ROWS:] + [["running", running_line(progress, name)] for name in progress.running]
        rows = [[html.text(line), html.text(state)] for state, line in lines]
        return [bar_of(len(progress.rows), progress.total, study_line(progress)), html.table([], rows, 2)]


def bar_of(done: float, total: float, words: str) -> str:
    """A bar with words next to it."""
    return f'<progress value="{done}" max="{total}" style="width:16em"></progress> {html.text(words)}'


def mean_so_far(task: Task, counters: Counters, sums: Tensor) -> tuple[float, float]:
    """Loss and accuracy of the epoch in progress."""
    seen = task.images_in(counters.step) - len(counters.rows) * len(task.train)
    loss, top1 = (sums / seen).tolist()
    return loss, top1


class LiveBar:
    """A bar with loss, accuracy, speed and time left; notes scroll by above it."""

    def __init__(self) -> None:
        columns = (
            bars.TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            bars.BarColumn(bar_width=None),
            bars.TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
            bars.TimeRemainingColumn(compact=True),
        )
        console = Console(stderr=True, highlight=False)
        self.bar = bars.Progress(*columns, console=console, transient=True, auto_refresh=False, expand=True)
        self.line: bars.TaskID | None = None
        self.shown_at = 0.0

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(printable(line), markup=False, soft_wrap=True)

    def epoch(self, task: Task, row: Row) -> None:
        """Print the result of an epoch above the bar."""
        self.note(epoch_line(task, row, self.bar.console.width))

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
        rate = (self.bar.tasks[0].speed or 0.0) * task.config.train.batch_size
        loss, top1 = mean_so_far(task, counters, sums)
        numbers = live_numbers(loss, top1, rate, self.bar.console.width)
        description = f"epoch {epoch + 1}/{math.ceil(task.config.train.epochs)}"
        self.bar.update(self.line, completed=counters.step, description=description, numbers=numbers, refresh=True)


@contextmanager
def counting(total: int | None, what: str) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar on a terminal for ``total`` things, called ``what`` (None: how many is not known): functions that take a
    message, and that count one more. Elsewhere only messages appear."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield say, lambda: None
        return
    words = (bars.TextColumn("{task.description}"), bars.BarColumn(bar_width=None), bars.MofNCompleteColumn())
    rest = (bars.TextColumn("{task.fields[rate]}"), bars.TimeRemainingColumn(compact=True))
    console = Console(stderr=True, highlight=False)
    with bars.Progress(*words, *rest, console=console, transient=True, refresh_per_second=5, expand=True) as bar:
        line = bar.add_task(what, total=total, rate="")

        def advance() -> None:
            bar.update(line, advance=1, rate=f"{bar.tasks[0].speed or 0:,.0f} {what}/s")

        yield (lambda words: console.print(printable(words), markup=False, soft_wrap=True)), advance


@contextmanager
def choose_watch(quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Progress], None]]]:
    """The progress of a study: functions that take a message, and the state of the study."""
    if quiet or (sys.stderr is None and not in_notebook()):
        yield (lambda line: None), (lambda progress: None)
    elif in_notebook():
        board = StudyBoard()
        yield board.area.note, board.show
        board.area.draw()
    elif sys.stderr.isatty():
        console = Console(stderr=True, highlight=False)
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            note = partial(console.print, markup=False, soft_wrap=True)
            yield lambda line: note(printable(line)), lambda progress: live.update(live_table(progress))
    else:
        yield say, Lines().show


class Lines:
    """Prints each run of a study when it has ended. On a cluster, it also says to which node a run has come, and once a
    minute how far it is."""

    def __init__(self) -> None:
        self.printed: set[tuple[str, int]] | None = None  # cells and seeds
        self.nodes: dict[str, str] = {}
        self.told_at = time.monotonic()

    def show(self, progress: Progress) -> None:
        """A line for what has ended since the last call; at the start, one for what was done before."""
        ended = {(row["cell"], row["seed"]): row for row in progress.rows}
        if self.printed is None:
            were = "was" if len(ended) == 1 else "were"
            whole = counted(progress.total, "run")
            say(f"{len(ended)} of {whole} {were} done before" if ended else whole)
        for job in ended.keys() - (ended.keys() if self.printed is None else self.printed):
            say(f"{study_line(progress)}: {row_line(ended[job], progress.split)}")
        self.printed = set(ended)
        self.show_nodes(progress)

    def show_nodes(self, progress: Progress) -> None:
        """A line for each run that has come to another node."""
        for name, place in progress.where.items():
            if place.node and place.node != self.nodes.get(name):
                say(f"{printable(name)}: {place_line(place)}")
        self.nodes = {name: place.node for name, place in progress.where.items()}
        if progress.where and time.monotonic() - self.told_at >= TOLD_SECONDS:
            self.told_at = time.monotonic()
            for name, place in progress.where.items():
                say(f"{printable(name)}: {place_line(place)}")


def place_line(place: Whereabouts) -> str:
    """Where a run of a study is, and how far: on gpu-7, 3 epochs done."""
    if not place.node:
        return f"waits for {place.waits_for}"
    return f"on {printable(place.node)}, {counted(place.epochs, 'epoch')} done"


def running_line(progress: Progress, name: str) -> str:
    """A run in progress."""
    return printable(name) + (f": {place_line(progress.where[name])}" if name in progress.where else "")


def study_line(progress: Progress) -> str:
    """Runs ended, runs failed, time left."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"{len(progress.rows)}/{progress.total} ended{failed}{left}"


def row_line(row: StudyRow, wanted: str) -> str:
    """The result of a run of a study, by the split ``wanted`` or, where that has no images, by validation images."""
    name = printable(f"{row['cell']}, seed {row['seed']}")
    if row["status"] != "done":
        return f"{name}: {printable(why_failed(row))}"
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
        table.add_row("running", Text(running_line(progress, name)))
    return table
