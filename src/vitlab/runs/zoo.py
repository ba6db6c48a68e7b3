"""The networks that come with vitlab, and what RUN means: a run folder, or the name of one of them.

Each is an ordinary run folder in src/vitlab/zoo, made by `python -m release.zoo`. Nothing is ever written there: the
folder of an installed package may be read-only, and belongs to everybody on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vitlab import files
from vitlab.config.hints import did_you_mean
from vitlab.errors import RunError
from vitlab.text import quoted

ZOO = Path(__file__).parents[1] / "zoo"
DEFAULT = "mnist"  # what the page shows to people who have trained nothing yet
RUNS, COPIES = Path("runs"), Path("runs/zoo")
REPAIR = "install vitlab again"
# The files that a network here has, with those of its epochs (`files_of`); a run's checkpoints and lock are left out.
FILES = (
    *("config.json", "data.json", "environment.json", "history.jsonl", "result.json"),
    *("model.safetensors", "novelty.safetensors"),
)
EPOCHS = "epochs"  # the folder of what a run kept of its training (epochs.py)
# A folder with one of these is somebody's run, study or export. Any other, such as a data set's, hides no network.
MARKS = ("config.json", "result.json", "environment.json", "model.safetensors", "study.json", "models.json")


def names() -> list[str]:
    """The names of the networks, the default first."""
    return sorted(files.names_in(ZOO), key=lambda name: (name != DEFAULT, name))


def is_in_zoo(path: Path) -> bool:
    """Whether ``path`` is the folder of one of these networks."""
    return path.parent == ZOO


def place(run: str | os.PathLike[str], note: Callable[[str], None] = lambda line: None) -> Path:
    """The folder that ``run`` means: the run folder of that path, the run of that name in runs/, or one of these
    networks, in this order; the path itself if there is none. ``note`` receives a line if a name could mean two.

    >>> place("mnist").name
    'mnist'
    """
    path = Path(run)
    if len(path.parts) != 1 or path.is_absolute():
        return path
    name = path.name
    found = [own for own in (path, RUNS / path) if is_own(own)]
    if name in names():
        if found:
            note(f"using your own run {found[0]}, not the network {name} that comes with vitlab")
            return found[0]
        if files.exists(path):
            note(f"using the network {name} that comes with vitlab, because {path.absolute()} is no run folder")
        return ZOO / name
    return found[0] if found and not files.exists(path) else path


def files_of(run: Path) -> list[str]:
    """The files to copy of a finished run: FILES, and the weights after each epoch if it kept them."""
    return [*FILES, *(f"{EPOCHS}/{name}" for name in files.names_in(run / EPOCHS))]


def similar(path: Path) -> str:
    """The end of a message about a run folder that does not exist: the network with a similar name, if there is one."""
    return "" if files.exists(path) else did_you_mean(path.name, names())


def why_no_run(path: Path) -> str:
    """What to say about ``path``, which is no run folder: what it is, and what to name instead."""
    yours = "`vitlab runs` lists yours, `vitlab train` makes one"
    if files.exists(path / "study.json"):
        return f"{path} is a study, not a run; `vitlab look {quoted(path)}` reports on it"
    if files.exists(path.parent / "config.json") and files.is_ordinary(path):
        return f"{path} is a file of a run; name the folder: {path.parent}"
    if not files.exists(path):
        return f"there is no run {path}{similar(path)}; {yours}"
    return f"{path} is not a run folder (no config.json); {yours}"


def is_own(path: Path) -> bool:
    """Whether ``path`` is a folder that vitlab has written."""
    return any(files.exists(path / mark) for mark in MARKS)


def name_of(run: Path) -> str:
    """What a user types for the run folder ``run``."""
    return run.name if is_in_zoo(run) else str(run)


@contextmanager
def refuse_damage(run: Path) -> Iterator[None]:
    """Inside, a RunError about one of these networks advises to install vitlab again, since nobody can resume it."""
    try:
        yield
    except RunError as error:
        if not is_in_zoo(run):
            raise
        reason = str(error).partition(";")[0]
        raise RunError(f"the network {run.name} that comes with vitlab cannot be used: {reason}; {REPAIR}") from None


def writable(run: Path, note: Callable[[str], None] = lambda line: None) -> Path:
    """A run folder that may be written to: ``run``, or a copy in runs/zoo of one of these networks. ``note`` receives a
    line about the copy. RunError if another run has its place."""
    if not is_in_zoo(run):
        return run
    copy = COPIES / run.name
    files.make_folder(copy)
    names = files_of(run)
    if len(names) > len(FILES):
        files.inner_folder(copy / EPOCHS)
    for name in names:
        data, kept = files.read_bytes(run / name, advice=REPAIR), copy / name
        if not files.exists(kept):
            files.write_bytes(kept, data)
        elif files.read_bytes(kept) != data:
            raise RunError(f"{copy} holds another run than the network {run.name}; delete or rename that folder")
    note(f"the network {run.name} is copied to {copy}, and everything is written there")
    return copy
