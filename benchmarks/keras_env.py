"""The environment of the Keras programs: TensorFlow and Keras, separate from vitlab's packages.

    python -m benchmarks.keras_env

creates `.venv-keras` next to `.venv` if it is missing (a few minutes, 1.6 GB of disk) and prints its versions.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("keras-requirements.txt")
FOLDER = Path(__file__).resolve().parents[1] / ".venv-keras"


def keras_python(note: Callable[[str], object]) -> Path:
    """The Python with the pinned TensorFlow and Keras, which are installed first if missing, incomplete or outdated.

    ``note`` receives one line before an installation begins. CalledProcessError if pip fails.
    """
    python, ready = FOLDER / "bin" / "python", FOLDER / "ready"
    wanted = REQUIREMENTS.read_text()
    if not ready.exists() or ready.read_text() != wanted:
        note(f"installing TensorFlow and Keras into {FOLDER.name}; this takes a few minutes")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
        ready.write_text(wanted)  # last, so that an interrupted installation is repeated
    return python


def main() -> None:
    """Create the environment and print its versions."""
    python = keras_python(lambda line: print(line, file=sys.stderr))
    names = [line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    ask = "import sys; from importlib.metadata import version; print('python', sys.version.split()[0])\n"
    ask += "for name in sys.argv[1:]: print(name, version(name))"
    subprocess.run([str(python), "-c", ask, *names], check=True)


if __name__ == "__main__":
    main()
