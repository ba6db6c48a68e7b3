"""Make docs/do/gallery.md and docs/pictures/ from two finished runs: `python docs/make_gallery.py RUN OTHER`.

RUN was trained on MNIST and is compared with OTHER. The words under the pictures are those of RUN's own report.
"""

from __future__ import annotations

import io
import sys
import textwrap
from pathlib import Path

import PIL.Image

from vitlab.data import load_dataset
from vitlab.look.images import data_section
from vitlab.look.report import Section
from vitlab.look.run import open_run, shown_images
from vitlab.look.style import to_bytes
from vitlab.look.summary import answer, preset_phrase
from vitlab.look.write import sections_of_run
from vitlab.text import duration

PAGE = Path(__file__).parent / "do" / "gallery.md"
FOLDER = Path(__file__).with_name("pictures")
WIDTH = 800  # pixels
COLOURS = 250

INTRODUCTION = """# Gallery: what `vitlab look` draws

```
vitlab look RUN                      # RUN/pictures, RUN/report.html and the model card RUN/README.md
vitlab look RUN --beside OTHER       # compared with another run
vitlab look RUN --image 7 --patch 9  # choose the image, and the patch whose attention is shown
vitlab look --data mnist             # a data set without a run
vitlab look runs/studies/NAME        # a study's report: table, picture, links to its runs
```

`report.html` is one file that you can open from a folder or send by e-mail; it makes no requests and runs no script.
Line plots are saved as SVG too. Below is what `vitlab look` draws and says about one run. For the terms, see the
[glossary](../learn/glossary.md).
"""


def main(run: Path, other: Path) -> None:
    """Write the page and its pictures."""
    subject, beside = open_run(run, print, {}), open_run(other, print, {})
    sections = sections_of_run(subject, [beside], shown_images(subject, None))
    data = data_section(load_dataset(subject.config.data.data))
    seed = Section("The seed page's patches", [picture for picture in data.pictures if "seed" in picture.name])
    head = answer(subject, [beside])
    result, about = subject.result, subject.environment
    facts = (
        f"The run: {preset_phrase(subject.config)}. {head.number} {head.sentence} Trained for "
        f"{duration(result['train_seconds'])} on {subject.machine_line}, {about['started_utc'][:10]}, commit "
        f"{about['git_commit']}. {head.comparisons[-1]} "
        "Times include what else the machine was doing."
    )
    made = "Made by `python docs/make_gallery.py RUN OTHER`."
    FOLDER.mkdir(exist_ok=True)
    parts = [INTRODUCTION, wrapped(facts), *(text_of(section) for section in (seed, *sections)), made]
    PAGE.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def text_of(section: Section) -> str:
    """A section of the page; its pictures are written too."""
    made = [f"## {section.title}"]
    for picture in section.pictures:
        (FOLDER / f"{picture.name}.png").write_bytes(small(to_bytes(picture.figure)))
        image = f"![{picture.alt}](../pictures/{picture.name}.png)"
        made.append(f"### {picture.title}\n\n{image}\n\n{wrapped(picture.text)}")
    return "\n\n".join(made)


def wrapped(text: str) -> str:
    """A paragraph, broken into lines as in the other pages."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def small(png: bytes) -> bytes:
    """The picture as a small file."""
    image = PIL.Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), PIL.Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(COLOURS, dither=PIL.Image.Dither.NONE).save(out, format="png", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
