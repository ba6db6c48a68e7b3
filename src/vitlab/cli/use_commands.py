"""What `predict` and `export` do: a trained network at work, and in other forms."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli.commands import quoted
from vitlab.cli.study_commands import RUNS
from vitlab.errors import ConfigError
from vitlab.files import to_json

if TYPE_CHECKING:
    from torch import Tensor

    from vitlab.predict import Classifier, Label

STANDARD_INPUT = "-"
SUFFIXES = (".png", ".jpg", ".jpeg")
TOGETHER = 64  # pictures that go through the network at once
READING_FAILED = 3  # exit code when at least one picture could not be read


@dataclass(frozen=True)
class Answer:
    """Labels, best first; ``blank``: there was no ink in the picture of a drawing."""

    labels: list[Label]
    blank: bool

    @property
    def sure(self) -> bool:
        """Whether the first label may be trusted."""
        from vitlab.predict.classifier import NOT_SURE

        return not self.blank and self.labels[0].probability >= NOT_SURE


def predict(arguments: argparse.Namespace) -> int:
    """vitlab predict RUN IMAGE ..."""
    from vitlab.data.images import printable
    from vitlab.predict import Classifier

    if arguments.images.count(STANDARD_INPUT) > 1:
        raise ConfigError("standard input (-) can be read only once; name it once")
    classifier = Classifier.load(arguments.run)
    places = [place for word in arguments.images for place in pictures_in(word)]
    width = max(len(printable(place)) for place in places)
    failed = False
    for name, answer in answers(classifier, places, arguments):
        failed = failed or isinstance(answer, str)
        if isinstance(answer, str):
            print(f"vitlab: {answer}", file=sys.stderr)
        if arguments.json:
            print(to_json(as_row(name, answer, classifier), indent=None))
        elif not isinstance(answer, str):
            print(as_line(printable(name).ljust(width), answer))
    return READING_FAILED if failed else 0


def pictures_in(word: str) -> list[str]:
    """A file as it is; of a folder the PNG and JPEG files in it, sorted, or the folder itself if there are none."""
    folder = Path(word)
    try:
        if not word or not folder.is_dir():
            return [word]
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except (OSError, ValueError):  # a folder or name that cannot be read: told when it is opened
        return [word]
    found = [str(folder / name) for name in names if name.lower().endswith(SUFFIXES)]
    return [place for place in found if not Path(place).is_dir()] or [word]


def answers(
    classifier: Classifier, places: list[str], arguments: argparse.Namespace
) -> Iterator[tuple[str, Answer | str]]:
    """(name, answer or one line that says why there is none) of each picture in turn; many at once are computed."""
    from vitlab.predict import ImageError

    waiting = iter(places)
    center = None if arguments.center else False
    while some := list(islice(waiting, TOGETHER)):
        read: list[Tensor] = []
        errors: dict[int, str] = {}
        for number, place in enumerate(some):
            try:
                read.append(classifier.prepare(picture_at(place, classifier), center))
            except ImageError as error:
                errors[number] = str(error)
        labels = classifier.labels(classifier.logits_of(read), arguments.top) if read else []
        made = iter(map(Answer, labels, map(classifier.is_blank, read)))
        for number, place in enumerate(some):
            name = "standard input" if place == STANDARD_INPUT else place
            yield name, errors[number] if number in errors else next(made)


def picture_at(place: str, classifier: Classifier) -> Any:
    """What the classifier reads: pixels from standard input, else the path. ImageError says why not."""
    from vitlab.data.images import MAX_BYTES, ImageError, decode

    if place == STANDARD_INPUT:
        if sys.stdin is None:  # as it is with `<&-`
            raise ImageError("standard input is closed; name a PNG or JPEG file")
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        return decode(data, "standard input", drawing=classifier.drawing is not None)
    if not place:
        raise ImageError("an empty name is no picture; name a PNG or JPEG file that exists")
    if Path(place).is_dir():
        raise ImageError(f"{place} is a folder without a PNG or JPEG image; name another one")
    return Path(place)


def as_line(name: str, answer: Answer) -> str:
    """One line for people: the answer, how likely, and what else it might be."""
    best, *others = answer.labels
    line = f"{name}  {best.name}  {percent(best)}"
    if others:
        line += f"   then {', '.join(f'{label.name} {percent(label)}' for label in others)}"
    if answer.blank:
        return f"{line}   nothing is drawn"
    return line if answer.sure else f"{line}   not sure"


def percent(label: Label) -> str:
    """A probability for people."""
    return f"{100 * label.probability:.1f} %"


def as_row(name: str, answer: Answer | str, classifier: Classifier) -> dict[str, Any]:
    """One line for programs."""
    if isinstance(answer, str):
        return {"image": name, "error": answer}
    labels = [{"label": one.name, "index": one.index, "probability": one.probability} for one in answer.labels]
    head = {"image": name, "label": answer.labels[0].name, "sure": answer.sure, "blank": answer.blank}
    return head | {"labels": labels, "model_sha256": classifier.digest}


def export(arguments: argparse.Namespace) -> int:
    """vitlab export RUN ... --to onnx|torch|web."""
    check_export(arguments)
    from vitlab.predict import Classifier

    classifiers = [Classifier.load(run) for run in arguments.runs]
    facts = export_as(arguments.to, classifiers, arguments.out or default_target(classifiers[0], arguments), arguments)
    print(to_json(facts, indent=None) if arguments.json else summary(facts))
    return 0


def check_export(arguments: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    to = arguments.to
    if to != "web" and len(arguments.runs) > 1:
        raise ConfigError(f"--to {to} takes one run, not {len(arguments.runs)}; only --to web takes several")
    own = {"attention": ("onnx", arguments.attention), "study": ("web", arguments.study), "runs": ("web", arguments.by)}
    for name, (form, given) in own.items():
        if given and to != form:
            raise ConfigError(f"--{name} belongs to --to {form}, not to --to {to}; leave it out")


def default_target(classifier: Classifier, arguments: argparse.Namespace) -> Path:
    """The run's name in the working folder."""
    endings = {"onnx": ".onnx", "torch": ".pt2", "web": "-web"}
    return Path(classifier.name + endings[arguments.to])


def export_as(to: str, classifiers: list[Classifier], out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Export; facts about what was written."""
    if to == "onnx":
        from vitlab.export.onnx import export_onnx

        return export_onnx(classifiers[0], out, arguments.attention)
    if to == "torch":
        from vitlab.export.program import export_program

        return export_program(classifiers[0], out)
    from vitlab.export.web import export_web

    def note(line: str) -> None:
        if not arguments.quiet:
            print(line, file=sys.stderr, flush=True)

    return export_web(classifiers, out, arguments.study, arguments.by or RUNS, note)


def summary(facts: dict[str, Any]) -> str:
    """The result for people."""
    path = Path(facts["path"])
    if facts["to"] == "web":
        models = f"{facts['models']} model{'s' if facts['models'] > 1 else ''}"
        size = f"{facts['bytes'] / 1e6:.1f} MB in {facts['files']} files"
        serve = f"python -m http.server --bind 127.0.0.1 --directory {quoted(path)}"
        return f"{path}: the page with {models}, {size}\nnext: {serve}   and open http://127.0.0.1:8000"
    shapes = {name: f"{name} [{', '.join(map(str, sizes))}]" for name, sizes in facts["outputs"].items()}
    data = f"images uint8 [{', '.join(map(str, facts['input']))}] -> {', '.join(shapes.values())}"
    batches = ", ".join(f"{difference:.1e} (batch {batch})" for batch, difference in facts["max_difference"].items())
    return f"{path}: {facts['bytes'] / 1e6:.2f} MB, {data}\nlargest difference from torch: {batches}"
