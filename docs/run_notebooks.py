"""Execute the notebooks from top to bottom: `python -m docs.run_notebooks [NAME ...] [--out FOLDER]`.

Each runs in an empty folder, as a reader would run it. An exception fails, and so does anything on stderr, where
warnings are printed. The notebooks in the repository stay without outputs; ``--out`` keeps executed copies.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat

from vitlab.text import say

FOLDER = Path(__file__).parents[1] / "notebooks"
CELL_SECONDS = 300


def execute(path: Path) -> tuple[nbformat.NotebookNode, list[str]]:
    """The notebook with its outputs, and what went wrong."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            allow_errors=True,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],  # without a warning about its own sockets
        )
        client.execute()
    return notebook, [trouble for cell in notebook.cells for trouble in troubles(cell)]


def troubles(cell: nbformat.NotebookNode) -> list[str]:
    """Exceptions of a cell, and what it wrote to stderr."""
    found = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            found.append(f"{output['ename']}: {output['evalue']}, in the cell that ends with {cell['source'][-60:]!r}")
        elif output.get("name") == "stderr":
            found.append(f"on stderr: {output['text'].strip()}")
    return found


def main() -> int:
    """Execute all notebooks, or those that are named; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="file names; the default is all")
    parser.add_argument("--out", type=Path, help="folder for the executed copies")
    arguments = parser.parse_args()
    paths = [path for path in sorted(FOLDER.glob("*.ipynb")) if path.name in (arguments.names or [path.name])]
    failed = not paths
    for path in paths:
        started = time.perf_counter()
        notebook, wrong = execute(path)
        say(f"{path.name}: {time.perf_counter() - started:.0f} s{', FAILED' if wrong else ''}")
        for trouble in wrong:
            say(trouble)
        failed = failed or bool(wrong)
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, arguments.out / path.name)  # type: ignore[no-untyped-call]
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
