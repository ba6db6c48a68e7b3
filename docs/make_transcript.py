"""Put what newcomers type, and vitlab's answers, into docs/do/command-line.md: `python -m docs.make_transcript`.

Every command is carried out, in a folder with two small runs and a picture. The answers are today's.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tempfile
from pathlib import Path

from PIL import Image

from vitlab.cli import main

PAGE = Path(__file__).parent / "do" / "command-line.md"
QUICK = "--data digits --preset fast --device cpu --threads 1 --precision fp32 --quiet"
STAGE = (f"train {QUICK} --epochs 2 --out runs/first", f"train {QUICK} --epochs 1 --seed 1 --out runs/second")

TYPED = {
    "A command by another name": (
        *("fit", "trian", "test runs/first", "eval runs/first", "infer seven.png", "plot runs/first", "list", "tune"),
        *("delete runs/first", "frobnicate", "--data mnist"),
    ),
    "An option by another name": (
        *("train --learning-rate 1e-3", "train --num-epochs 3", "train --projection-dim 64"),
        *("train --transformer-layers 8", "train --heads 4", "train --patch_size 4", "train -lr 1e-3"),
        *("train --momentum 0.9", "train --workers 4", "train --gpu", "train --output here", "train --model small"),
        *("train --pretrained", "train --epoch 3", "study --vary projection_dim=32,64"),
    ),
    "A value that cannot be": (
        *("train --device gpu", "train --precision fp16", "train --optimizer adam"),
        *("train --lr=1e-3,1e-2", "train --num-heads 5", "train --patch-size 40"),
    ),
    "A word in the wrong place, or none": (
        *("train mnist", "train small", "train --data seven.png", "train --data digts", "study patch_size=4,7"),
        *("compare runs/first runs/second", "evaluate", "predict seven.png", "evaluate small"),
        *("runs delete seven.png", "runs delete runs/first"),
    ),
    "Not a mistake": (
        *(f"train {QUICK} --epochs 1 --lr 100 --out runs/third", "evaluate runs/first --split train --quiet"),
    ),
}  # fmt: skip


def transcript() -> str:
    """The commands and their answers as tables, one for each kind."""
    made = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Image.new("L", (28, 28)).save("seven.png")
        for line in STAGE:
            answer(line)
        for title, lines in TYPED.items():
            made += ["", f"### {title}", "", "| `vitlab` ... | answer |", "| --- | --- |"]
            made += [f"| `{line}` | {answer(line).replace('|', chr(92) + '|')} |" for line in lines]
        leftover = Path(folder).resolve()
    return "\n".join(made[1:]).replace(f"{leftover}/", "").replace(f"{folder}/", "")


def answer(line: str) -> str:
    """The line that matters in the answer of `vitlab LINE`: an error, a note, or else the first one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(shlex.split(line))
    lines = [*out.getvalue().splitlines(), *err.getvalue().splitlines()]
    marks = ("vitlab: ", "note: ")
    found = next((one for mark in marks for one in lines if one.startswith(mark)), lines[0] if lines else "")
    return found.removeprefix("vitlab: ")


def masked(text: str) -> str:
    """The text without measured numbers, which differ from machine to machine."""
    return re.sub(r"\d[\d.,]*\d (%|to)|blew up to [\d.,]*\d", "N", text)


def page(made: str) -> str:
    """The page with the tables, which stand at its end."""
    words, _, _ = PAGE.read_text(encoding="utf-8").partition("\n### ")
    return f"{words}\n{made}\n"


if __name__ == "__main__":
    PAGE.write_text(page(transcript()), encoding="utf-8")
