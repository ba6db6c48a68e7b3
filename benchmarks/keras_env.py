"""The environment in which the real Keras programs run: TensorFlow and Keras, apart from vitlab's own packages.

    python -m benchmarks.keras_env

makes `.venv-keras` beside `.venv` if it is missing (some minutes, 1.6 GB of disk) and prints its versions.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("keras-requirements.txt")
FOLDER = Path(__file__).resolve().parents[1] / ".venv-keras"


def keras_python(note: Callable[[str], object]) -> Path:
    """The Python that has the pinned TensorFlow and Keras, installed first if it is missing, unfinished or outdated.

    ``note`` is given one line before the installation begins. CalledProcessError when pip fails.
    """
    python, ready = FOLDER / "bin" / "python", FOLDER / "ready"
    wanted = REQUIREMENTS.read_text()
    if not ready.exists() or ready.read_text() != wanted:
        note(f"installing TensorFlow and Keras into {FOLDER.name}; this takes some minutes")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
        ready.write_text(wanted)  # the last step: an installation that was killed is made again
    return python


def main() -> None:
    """Make the environment and print what is in it."""
    python = keras_python(lambda line: print(line, file=sys.stderr))
    names = [line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    ask = "import sys; from importlib.metadata import version; print('python', sys.version.split()[0])\n"
    ask += "for name in sys.argv[1:]: print(name, version(name))"
    subprocess.run([str(python), "-c", ask, *names], check=True)


if __name__ == "__main__":
    main()
