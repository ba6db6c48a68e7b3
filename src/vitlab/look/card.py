"""The model card of a run: README.md in the usual sections (Mitchell et al. 2019, "Model Cards for Model Reporting"),
filled from what the run knows about itself."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.data import CATALOGUE
from vitlab.look.answer import caveats
from vitlab.look.report import Section, markdown, templates
from vitlab.look.run import Subject
from vitlab.predict import drawing
from vitlab.predict.classifier import DRAWN
from vitlab.runs.result import shown_metrics

# As long as README.md holds the start of this line, `vitlab look` overwrites it.
MARK = "<!-- Made by `vitlab look`"
MARK_LINE = f"{MARK}, which overwrites this file; delete this line to keep your changes. -->"
SHOWN = ("confusion", "attention", "deletion", "robustness")  # pictures
LIMITS = ("classes", "reliability", "robustness")  # pictures whose facts are limits of the network


def card(subject: Subject, sections: Sequence[Section]) -> str:
    """The whole file. ``sections`` give sentences and alternative texts; the figures are those in pictures/."""
    from markupsafe import Markup

    pictures = {picture.name: picture for section in sections for picture in section.pictures}
    about = subject.dataset.card
    known = None if about.layout in ("folder", "npz") else CATALOGUE.get(about.name)  # a folder may be called mnist
    made = templates(False, lambda value: value if isinstance(value, Markup) else markdown(value))
    accuracy, interval = subject.headline
    return made.get_template("card.md.j2").render(
        mark=MARK_LINE, run=subject, result=subject.result, environment=subject.environment, data=about, known=known,
        accuracy=accuracy, interval=interval, metrics=list(shown_metrics(subject.result.to_dict())),
        caveats=caveats(subject), steps=preparation(subject),
        limits=[pictures[name].fact or pictures[name].text for name in LIMITS if name in pictures],
        shown=[pictures[name] for name in SHOWN if name in pictures],
        missing=[missing for section in sections for missing in section.missing],
        drawing=drawing if about.name in DRAWN else None,
    )  # fmt: skip


def preparation(subject: Subject) -> list[str]:
    """The steps from a stored image to the network's input."""
    preprocess, about, steps = subject.preprocess, subject.dataset.card, ["pixels to 0..1"]
    size, crop = preprocess.image_size, preprocess.crop
    if (about.height, about.width) != (size, size):
        steps.append(f"resized to {size} x {size} (bilinear)")
    if crop is not None and crop < size:
        steps.append(f"cropped to the central {crop} x {crop}")
    mean, std = (", ".join(f"{value:.5g}" for value in values) for values in (preprocess.mean, preprocess.std))
    return [*steps, f"minus {mean}, divided by {std}"]
