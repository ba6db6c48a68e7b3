"""What people pass as data although it is not: a run, a web address, a film; and what to pass instead."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitlab.data.cards import CATALOGUE
from vitlab.data.images import SUFFIXES
from vitlab.data.layout import TABLES, has_classes
from vitlab.data.paths import contents, is_run
from vitlab.errors import DataError
from vitlab.text import listed, quoted

WEB = re.compile(r"[a-z]{2,}:/+", re.IGNORECASE)  # a Path has one slash of two


def is_address(place: str) -> bool:
    """Whether ``place`` is a web address, and no file that happens to be called so."""
    return bool(WEB.match(place)) and not os.path.exists(place)


def refuse_others(name: str, path: str) -> None:
    """DataError if the user's ``name``, which means ``path``, is something that vitlab knows, but no data set."""
    if is_address(name):
        raise DataError(f"{name} is a web address, which vitlab does not read; download the file first and name that")
    if not os.path.isdir(path) or has_classes(Path(path)):
        return
    if os.path.isfile(os.path.join(path, "study.json")):
        raise DataError(f"{name} is a study, not data; `vitlab look {quoted(name)}` reports on it")
    if is_run(Path(path)):
        raise DataError(f"{name} is a run, not data; --init-from {quoted(name)} starts from its weights")
    entries = contents(Path(path), Path(path))
    if any(one.kind == "folder" or one.name.lower().endswith(TABLES) for one in entries):
        return
    files = [one.name for one in entries if one.kind == "file"]
    if advice := of_catalogue(path, files) or of_arrays(name, files):
        raise DataError(f"{name} {advice}")


def of_catalogue(folder: str, files: list[str]) -> str:
    """What to do with a folder whose ``files`` are those of a data set of the catalogue; empty for others."""
    there = {name.removesuffix(".gz") for name in files}
    held = [
        card.name
        for card in CATALOGUE.values()
        if card.layout != "sklearn" and {file.name.removesuffix(".gz") for file in card.files} <= there
    ]
    names = [name for name in held if name == Path(folder).resolve().name] or held
    if not names:
        return ""
    use = listed([f"--data {name}" for name in names], "or")
    return f"holds the files of {listed(names, 'or')}; set VITLAB_DATA={quoted(folder)} and use {use}"


def of_arrays(name: str, files: list[str]) -> str:
    """What to do with a folder that holds .npz ``files``; empty for others."""
    arrays = [file for file in files if file.endswith(".npz")][:3]
    use = listed([f"--data {quoted(os.path.join(name, file))}" for file in arrays], "or")
    return f"is a folder with {listed(arrays)} in it; name the file: {use}" if arrays else ""


def of_a_file(name: str) -> str:
    """What to say about a file that is no data set."""
    needs = "as data, name a folder that has a sub-folder of images for each class, or an .npz or .csv file"
    if name.lower().endswith(SUFFIXES):
        return f"{name} is a picture; {needs} (to classify it with a finished run: `vitlab predict RUN {quoted(name)}`)"
    if name.endswith(".npy"):
        call = f'np.savez("{name.removesuffix(".npy")}.npz", x_train=x, y_train=y)'
        return f"{name} is one array, without labels; save images and labels together: {call}"
    return f"{name} is a file; {needs}"
