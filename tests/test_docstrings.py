"""The examples in the docstrings of everything public run, and print what they say."""

from __future__ import annotations

import doctest
import functools
import inspect
import io
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import vitlab
import vitlab.api

FINDER = doctest.DocTestFinder(recurse=False)
CONSTANTS = ("CATALOGUE", "PRESETS")  # plain dicts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples, so that no study repeats a run."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many examples train the same network: the first one does."""
    monkeypatch.setattr(vitlab, "train", trained, raising=False)


@functools.cache
def trained(*words: Any, **knobs: Any) -> vitlab.Run:
    """`vitlab.train`, once for the same arguments."""
    from vitlab.api import train

    return train(*words, **knobs)


@pytest.mark.parametrize("name", [name for name in vitlab.__all__ if name not in CONSTANTS])
@pytest.mark.usefixtures("trained_once")
def test_every_public_name_has_an_example_that_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    public = getattr(vitlab.api, name) if name == "train" else getattr(vitlab, name)
    (test,) = FINDER.find(public, name, globs={"vitlab": vitlab}, module=False)
    assert test.examples, f"{name} has no example"
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test, out=said.write)
    assert said.getvalue() == ""


def test_signatures_can_be_read() -> None:
    """Without addresses of objects."""
    for name in (name for name in vitlab.__all__ if callable(getattr(vitlab, name)) and name != "VitlabError"):
        shown = str(inspect.signature(getattr(vitlab, name)))
        assert " at 0x" not in shown, name
        assert "lambda" not in shown, name


def test_no_package_is_named_like_a_function() -> None:
    """Importing vitlab.train, if there were such a package, would replace the function."""
    packages = {module.name for module in pkgutil.iter_modules(vitlab.__path__)}
    assert packages & set(vitlab.__all__) == set()
