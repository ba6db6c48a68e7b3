"""Call `vitlab` as a user does, in this process or another one, and see what it leaves on the disk."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.tiny import tiny_config, write_npz
from vitlab.cli import main
from vitlab.files import sha256, write_json


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int | str | None
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong: it stands last on standard error; notes may precede it."""
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("vitlab: ")]
        assert errors == lines[-1:], f"one line, the last, should begin with 'vitlab: ': {self.err}"
        return errors[0] if errors else ""


def vitlab(line: str) -> Answer:
    """`vitlab LINE` in this process, which saves the seconds of importing torch."""
    out, err = io.StringIO(), io.StringIO()
    code: int | str | None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(shlex.split(line))
        except SystemExit as end:  # argparse after --help
            code = end.code or 0
    return Answer(code, out.getvalue(), err.getvalue())


def start(line: str, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
    """`python -m vitlab LINE` as another process."""
    return subprocess.Popen(
        [sys.executable, "-m", "vitlab", *shlex.split(line)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | environment,
    )


def finish(process: subprocess.Popen[str], seconds: float = 60.0) -> Answer:
    """The answer of a process; TimeoutExpired when it takes longer than ``seconds``."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Answer(process.returncode, out or "", err)


def lay_out(folder: Path) -> Path:
    """Put toy.npz, a data set that trains in a second, and tiny.json, a configuration for it, into ``folder``."""
    write_npz(folder / "toy.npz")
    write_json(folder / "tiny.json", tiny_config("toy.npz", device="cpu").to_dict())
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below ``folder`` with the SHA-256 of its bytes, but for lock files."""
    return {
        path.relative_to(folder).as_posix(): "folder" if path.is_dir() else sha256(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }
