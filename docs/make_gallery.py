"""Make docs/gallery.md and docs/pictures/ from two finished runs: `python docs/make_gallery.py RUN OTHER`.

RUN was trained on MNIST; OTHER stands beside it. The words under the pictures are those of RUN's own report.
"""

from __future__ import annotations

import io
import sys
import textwrap
from pathlib import Path

import PIL.Image

from vitlab.data import load_dataset
from vitlab.pictures.style import to_bytes
from vitlab.report.answer import answer, machine_phrase, preset_phrase
from vitlab.report.gather import open_run, shown_images
from vitlab.report.parts import Picture, Section, duration
from vitlab.report.write import section_of_data, sections_of_run

PAGE = Path(__file__).with_name("gallery.md")
FOLDER = Path(__file__).with_name("pictures")
WIDTH = 800  # pixels
COLOURS = 250

INTRODUCTION = """# Gallery: what `vitlab look` draws

```
vitlab look RUN                      # RUN/pictures, RUN/report.html and the model card RUN/README.md
vitlab look RUN --beside OTHER       # with another run's curves beside it
vitlab look RUN --image 7 --patch 9  # choose the image, and the patch whose attention is shown
vitlab look --data mnist             # a data set without a run
vitlab look runs/studies/NAME        # a study's report: table, picture, links to its runs
```

`report.html` is one file: it opens from a folder or a mail, asks the network for nothing and runs nothing. Pictures
of lines are kept as SVG too. In Python each picture is a function from arrays to a matplotlib figure
(`vitlab.pictures`), and the numbers behind it come from `vitlab.look`.

What follows is, picture by picture and word by word, what it says about one run.
"""


def main(run: Path, other: Path) -> None:
    """Write the page and its pictures."""
    subject, beside = open_run(run, print, {}), open_run(other, print, {})
    sections = sections_of_run(subject, [beside], shown_images(subject, None))
    data = section_of_data(load_dataset(subject.config.data.data))
    seed = Section("The seed page's patches", [part for part in data.parts if "seed" in getattr(part, "name", "")])
    told = answer(subject, [beside])
    result, about = subject.result, subject.environment
    facts = (
        f"The run: {preset_phrase(subject.config)}. {told.number} {told.sentence} Trained for "
        f"{duration(result['train_seconds'])} on {machine_phrase(subject)}, {about['started_utc'][:10]}, commit "
        f"{about['git_commit']}. {told.comparisons[-1]}"
    )
    made = "Made by `python docs/make_gallery.py RUN OTHER`."
    FOLDER.mkdir(exist_ok=True)
    parts = [INTRODUCTION, wrapped(facts), *(text_of(section) for section in (seed, *sections)), made]
    PAGE.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def text_of(section: Section) -> str:
    """A section of the page; its pictures are written beside it."""
    made = [f"## {section.title}"]
    for part in section.parts:
        if isinstance(part, Picture):
            (FOLDER / f"{part.name}.png").write_bytes(small(to_bytes(part.figure)))
            made.append(f"### {part.title}\n\n![{part.alt}](pictures/{part.name}.png)\n\n{wrapped(part.text)}")
    return "\n\n".join(made)


def wrapped(text: str) -> str:
    """A paragraph in lines as long as those of the other pages."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def small(png: bytes) -> bytes:
    """The picture at modest size."""
    image = PIL.Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), PIL.Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(COLOURS, dither=PIL.Image.Dither.NONE).save(out, format="png", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
