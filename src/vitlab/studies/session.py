"""A whole study: its images checked, its runs carried out, and all its processes ended, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.errors import ConfigError, DataError, Interrupted
from vitlab.interrupts import stop_on_signals
from vitlab.runs.prepare import cut
from vitlab.studies.driver import Driver, Executor, Progress, Row
from vitlab.studies.grid import Cell, Study
from vitlab.studies.images import Images, short_name
from vitlab.text import counted, few, listed, quoted
from vitlab.training.augment import check_flip

if TYPE_CHECKING:
    from vitlab.studies.search import Search

Watch = AbstractContextManager[tuple[Callable[[str], None], Callable[[Progress], None]]]


@dataclass(frozen=True)
class Place:
    """The folder of a study and that of its runs; ``retry_failed``: run what has failed again; ``may_be_elsewhere``:
    images that are missing here may be on a cluster."""

    folder: Path
    runs: Path
    retry_failed: bool = False
    may_be_elsewhere: bool = False


def run_study(
    study: Study, place: Place, executor: Executor, watch: Watch, search: Search | None = None
) -> tuple[Study, list[Row]]:
    """Run what is missing, and stop the executor. The study (with the cells that ``search`` has found) and its rows;
    Interrupted if a signal stops it, after all its processes have ended. ``watch`` gives a function for messages and
    one for the progress."""
    cells = (Cell("", {}, search.config),) if search else study.cells
    images = Images(sides={cell.config.data.data: cell.config.model.image_size for cell in cells})
    try:
        untested = check_data(cells, images, place.may_be_elsewhere)
        with watch as (note, show), stop_on_signals() as stop:
            if untested and not search:
                note(f"no test images in {listed(untested)}: accuracies are on validation images")

            def run_cells(cells: Sequence[Cell]) -> tuple[list[Row], bool]:
                found = replace(study, cells=tuple(cells))
                driver = Driver(found, place.folder, place.runs, executor, note, show, stop, images)
                return driver.run(place.retry_failed)

            if search:
                tried, rows, complete = search.run(run_cells)
                study = replace(study, cells=tuple(tried))
            else:
                rows, complete = run_cells(study.cells)
    finally:
        executor.stop()
    if not complete:
        ended = f"interrupted after {counted(len(rows), 'run')}"
        raise Interrupted(f"{ended}; rerun the same command to continue ({quoted(place.folder)})", stop.signum)
    return study, rows


def check_data(cells: Sequence[Cell], images: Images, may_be_elsewhere: bool) -> list[str]:
    """The data sets without test images. DataError or ConfigError, before anything runs, if images are missing or a
    cell cannot use them; ``may_be_elsewhere``: missing images may be on a cluster."""
    untested = []
    for data in dict.fromkeys(cell.config.data.data for cell in cells):
        try:
            dataset = images.load(data)
        except DataError:
            if may_be_elsewhere:
                continue
            raise
        cuts, blind = set(), []
        for cell in (cell for cell in cells if cell.config.data.data == data):
            try:
                check_flip(cell.config.augment, dataset.card.may_flip, dataset.card.name)
                if cell.config.data not in cuts:
                    cut(dataset, cell.config, is_new=True)
                if cell.name and dataset.test is None and dataset.val is None and not cell.config.data.val_fraction:
                    blind.append(cell.name)
            except (ConfigError, DataError) as error:
                raise type(error)(f"cell {cell.name}: {error}" if cell.name else str(error)) from error
            cuts.add(cell.config.data)
        if blind:
            keep = "keeps" if len(blind) == 1 else "keep"
            raise ConfigError(
                f"{short_name(data)} has no test images, and {few(blind)} {keep} none for validation; "
                "add --val-fraction 0.1"
            )
        if dataset.test is None:
            untested.append(short_name(data))
    return untested
