"""The notebooks as they are stored. `make notebooks` executes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def sources(path: Path, kind: str) -> list[str]:
    """The texts of its cells of this kind."""
    book = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def run_first_cell(install: str, **found: Any) -> dict[str, Any]:
    """The first cell, with a call in place of the magic, which is no Python."""
    names: dict[str, Any] = {"installed": []} | found
    exec(install.replace('%pip install --quiet "{found}"', "installed.append(found)"), names)
    return names


@EACH
def test_they_are_stored_without_outputs_and_traces_of_a_machine(path: Path) -> None:
    """If not: restart the kernel, clear all outputs, save, and keep only these metadata."""
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    assert text == json.dumps(book, indent=1, ensure_ascii=False) + "\n"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert book["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    for number, cell in enumerate(book["cells"]):
        assert (cell["id"], cell["metadata"]) == (f"cell-{number:02d}", {})
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@EACH
def test_the_first_cell_does_nothing_where_vitlab_is_installed(path: Path) -> None:
    first = sources(path, "code")[0]
    assert first == sources(NOTEBOOKS[0], "code")[0]
    assert run_first_cell(first)["installed"] == []


def test_without_vitlab_the_first_cell_takes_a_wheel_or_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = sources(NOTEBOOKS[0], "code")[0].replace('find_spec("vitlab")', 'find_spec("no_such_package")')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=r"set SOURCE above, or put a vitlab-\*\.whl next to this notebook"):
        run_first_cell(missing)
    wheel, repository = "vitlab-0.1.0-py3-none-any.whl", "git+https://example.org/vitlab"
    (tmp_path / wheel).touch()
    assert run_first_cell(missing)["installed"] == [wheel]
    named = missing.replace('SOURCE = ""', f'SOURCE = "{repository}"')
    assert run_first_cell(named)["installed"] == [repository]


@EACH
def test_they_have_a_picture_and_an_exercise_and_parse(path: Path) -> None:
    code = sources(path, "code")
    assert any(".plot()" in text for text in code)
    assert len([text for text in sources(path, "markdown") if "## Exercise\n" in text]) == 1
    assert code[-1].startswith("# your turn")
    for text in code[1:]:
        ast.parse(text)


def test_the_page_lists_every_notebook() -> None:
    page = (ROOT / "docs" / "learn" / "notebooks.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        assert f"(../../notebooks/{path.name})" in page
