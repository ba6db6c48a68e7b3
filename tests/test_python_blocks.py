"""The Python in the README and in the guide runs as it is written: in Python, and twice in a row, as people run cells,
in IPython and in a Jupyter kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT / "src"),
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def finish(words: list[str], folder: Path) -> str:
    """What a process says that must end well."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/do/python.md"])
def test_the_blocks_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    text = "\n".join(blocks(page)).replace("seeds=2", "seeds=1").replace("epochs=3", "epochs=1")  # shorter, not other
    finish([sys.executable, "-c", text], tmp_path)
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 1


def test_the_block_of_the_readme_runs_twice_in_ipython(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    (block,) = blocks("README.md")
    (tmp_path / "block.ipy").write_text(f"{block}\n{block}\nprint('both:', run.path.name)\n")
    said = finish([sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "block.ipy"], tmp_path)
    assert said.splitlines()[-1].startswith("both: ")
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 2


def test_the_block_of_the_readme_runs_twice_in_a_jupyter_kernel(tmp_path: Path) -> None:
    """With one table of progress per run, and a picture of attention below the cell."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (block,) = blocks("README.md")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for _ in range(2)])
    nbformat.write(notebook, tmp_path / "block.ipynb")
    script = (
        "import nbformat, nbclient\n"
        "book = nbformat.read('block.ipynb', 4)\n"
        "nbclient.NotebookClient(book, timeout=300, kernel_name='python3').execute()\n"
        "nbformat.write(book, 'block.ipynb')\n"
    )
    assert nbclient
    finish([sys.executable, "-c", script], tmp_path)
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 2
    for cell in nbformat.read(tmp_path / "block.ipynb", 4).cells:
        shown = [output for output in cell.outputs if output.output_type == "display_data"]
        (progress,) = [output.data["text/html"] for output in shown if "text/html" in output.data]
        assert "3 of 3" in progress
        assert "<progress" not in progress, "it has ended"
        assert [output for output in cell.outputs if output.get("name") == "stderr"] == []
        (result,) = [output for output in cell.outputs if output.output_type == "execute_result"]
        assert result.data["image/png"]
