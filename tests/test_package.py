"""What pyproject.toml, the documentation and the error messages say about the package fits together.

That the built files hold what they should, and work, is checked by `python -m release.check`, in CI too.
"""

from __future__ import annotations

import re
import tomllib
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

import vitlab
from release import check
from vitlab.errors import pip_install
from vitlab.runs.trackers import TRACKERS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [path for folder in ("src", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]


def extras_in(text: str) -> set[str]:
    """The extras in .[a,b], vitlab[a], ….whl[a] and pip_install("a")."""
    found = re.findall(r"(?:'\.|vitlab|\.whl)\[([a-z,]+)\]|pip_install\([\"']([a-z]+)[\"']\)", text)
    return {name for pair in found for names in pair for name in names.split(",") if name}


def test_every_extra_that_is_named_exists() -> None:
    texts = [path.read_text() for path in [*PAGES, *SOURCES, ROOT / "Makefile", ROOT / "pyproject.toml"]]
    named = set().union(*map(extras_in, texts))
    assert named <= set(EXTRAS)
    assert named >= {"onnx", "optuna", "ray"}


def test_extras_are_found_in_every_form() -> None:
    text = """pip install -e '.[one,two]'; 'vitlab-1.0-py3-none-any.whl[three]'; vitlab[four]; pip_install("five")"""
    assert extras_in(text) == {"one", "two", "three", "four", "five"}


def test_every_extra_is_explained() -> None:
    words = (ROOT / "docs/contribute/dependencies.md").read_text() + (ROOT / "docs/do/install.md").read_text()
    assert [name for name in EXTRAS if f"`{name}`" not in words and f"[{name}]" not in words] == []
    assert set(TRACKERS) <= set(EXTRAS)


def test_the_advice_for_a_missing_package_names_the_packages_of_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "torch>=2",
        "ray>=2.40 ; extra == 'ray'",
        'onnx>=1.21; extra == "onnx"',
        "onnxscript>=0.3; extra == 'onnx'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert pip_install("onnx") == "pip install 'onnx>=1.21' 'onnxscript>=0.3'"
    assert pip_install("ray") == "pip install 'ray>=2.40'"
    monkeypatch.setattr(metadata, "requires", lambda name: None)
    assert pip_install("mlflow") == "pip install mlflow"


def test_the_version_has_one_source() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/vitlab/__init__.py"
    assert re.findall(r"(?m)^version: (.+)$", (ROOT / "CITATION.cff").read_text()) == [vitlab.__version__]


def test_an_index_shows_the_readme_without_links_into_the_repository() -> None:
    readme = (ROOT / "README.md").read_text()
    assert check.RELATIVE.search(readme)
    for one in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        readme = re.sub(one["pattern"], one["replacement"], readme)
    assert check.RELATIVE.search(readme) is None


def test_a_readme_with_a_link_into_the_repository_is_refused() -> None:
    about = Message()
    about["Version"], about["Description-Content-Type"] = vitlab.__version__, "text/markdown"
    about.set_payload(200 * "words " + "[here](https://example.org)")
    check.check_metadata(about)
    about.set_payload(200 * "words " + "[here](docs/do/data.md)")
    with pytest.raises(SystemExit, match="links into the repository"):
        check.check_metadata(about)


def test_a_package_must_hold_the_files_that_git_knows() -> None:
    wheel = Path("x.whl")
    check.same({"a", "b"}, {"a", "b"}, wheel)
    with pytest.raises(SystemExit, match=r"x.whl lacks \['b'\]"):
        check.same({"a"}, {"a", "b"}, wheel)
    with pytest.raises(SystemExit, match=r"git does not know: \['c'\]"):
        check.same({"a", "b", "c"}, {"a", "b"}, wheel)
