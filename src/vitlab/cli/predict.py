"""vitlab predict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.errors import ConfigError, DataError
from vitlab.text import few, percent, say, show

if TYPE_CHECKING:
    from torch import Tensor

    from vitlab.predict import Classifier, Label

STANDARD_INPUT = "-"
TOGETHER = 64  # pictures that go through the network at once


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "RUN IMAGE [IMAGE ...] [options]"
    parser = flags.add_command(children, predict, "classify pictures with a trained network", usage)
    add = parser.add_argument
    add("run", metavar="RUN", type=flags.run, help=flags.A_RUN)
    add("images", metavar="IMAGE", nargs="+", help="a file, a folder, or - for standard input")
    add("--top", metavar="N", type=flags.count, default=3, help="number of labels per image [3]")
    add("--no-center", dest="center", action="store_false", help="scale a drawing as a whole, without centring it")
    add("--json", action="store_true", help="print one line of JSON per image, in their order")


@dataclass(frozen=True)
class Answer:
    """Labels, best first; ``reason``: why no drawing that can be read was found, or None; ``blank``: not even ink;
    ``unlike``: the picture is unlike anything that the network was trained on (None: the run folder does not say)."""

    labels: list[Label]
    reason: str | None
    blank: bool
    unlike: bool | None = None

    @property
    def sure(self) -> bool:
        """Whether the first label can be trusted."""
        from vitlab.predict.classifier import NOT_SURE

        return self.reason is None and not self.unlike and self.labels[0].probability >= NOT_SURE


def predict(arguments: argparse.Namespace) -> int:
    """Print ranked labels for images of any size and mode. If the network was trained on drawings that
    were scaled and centred like MNIST's digits, the ink is found on paper of any colour and prepared in the same way. A
    picture that cannot be read gets a line on standard error and makes the exit code 3; the others are classified."""
    from vitlab.data.images import printable
    from vitlab.predict import Classifier

    if arguments.images.count(STANDARD_INPUT) > 1:
        raise ConfigError("standard input (-) can be read only once; name it once")
    classifier = Classifier.load(arguments.run)
    places = [place for word in arguments.images for place in pictures_in(word)]
    width = max(len(printable(place)) for place in places)
    failed = False
    for name, answer in answers(classifier, places, arguments):
        if isinstance(answer, str):
            failed = True
            say(f"vitlab: {answer}")
        if arguments.json:
            flags.print_json(as_row(name, answer, classifier))
        elif not isinstance(answer, str):
            show(as_line(printable(name).ljust(width), answer))
    return DataError.exit_code if failed else 0


def pictures_in(word: str) -> list[str]:
    """The pictures in a folder and its sub-folders, in natural order; a file, or a folder without any, as it is. One
    line lists what is skipped."""
    from vitlab.data.images import is_picture, printable
    from vitlab.data.paths import files_below

    folder = Path(word)
    try:
        if not word or not folder.is_dir():
            return [word]
        entries = list(files_below(folder))
    except (OSError, ValueError):  # a name that cannot be read: reported when it is opened
        return [word]
    found = [str(entry.path) for entry in entries if entry.kind == "file" and is_picture(entry.path)]
    skipped = [printable(str(entry.path)) for entry in entries if str(entry.path) not in set(found)]
    if skipped and found:
        say(f"skipped in {printable(word)}, because vitlab cannot read them as images: {few(skipped)}")
    return found or [word]


def answers(
    classifier: Classifier, places: list[str], arguments: argparse.Namespace
) -> Iterator[tuple[str, Answer | str]]:
    """The name of each picture in turn, with its answer or one line that says why there is none."""
    from vitlab.predict import ImageError

    waiting = iter(places)
    center = None if arguments.center else False
    while some := list(islice(waiting, TOGETHER)):
        read: list[Tensor] = []
        reasons: list[str | None] = []
        errors: dict[int, str] = {}
        for number, place in enumerate(some):
            try:
                image, reason = classifier.examine(picture_at(place, classifier), center)
                read.append(image)
                reasons.append(reason)
            except ImageError as error:
                errors[number] = str(error)
        logits, unlike = classifier.outputs_of(read) if read else (None, [])
        labels = [] if logits is None else classifier.labels(logits, arguments.top)
        made = iter(map(Answer, labels, reasons, map(classifier.is_blank, read), unlike))
        for number, place in enumerate(some):
            name = "standard input" if place == STANDARD_INPUT else place
            yield name, errors[number] if number in errors else next(made)


def picture_at(place: str, classifier: Classifier) -> Any:
    """What the classifier takes: the pixels on standard input, else the path; ImageError says why not."""
    from vitlab.data.images import MAX_BYTES
    from vitlab.predict import ImageError

    if place == STANDARD_INPUT:
        if sys.stdin is None:  # as after `<&-`
            raise ImageError("standard input is closed; name an image file")
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        return classifier.decode(data, "standard input", is_local=True)
    if not place:
        raise ImageError("a picture's name is empty; name an image file")
    if Path(place).is_dir():
        raise ImageError(f"{place} is a folder without an image that can be read; name another one")
    return Path(place)


def as_line(name: str, answer: Answer) -> str:
    """One line for people: the label, its probability, and the next labels."""
    best, *others = answer.labels
    line = f"{name}  {best.name}  {percent(best.probability, 1)}"
    if others:
        line += f"   then {', '.join(f'{label.name} {percent(label.probability, 1)}' for label in others)}"
    if answer.reason:
        return f"{line}   not sure: {answer.reason}"
    if answer.unlike:
        return f"{line}   unlike anything it was trained on"
    return line if answer.sure else f"{line}   not sure"


def as_row(name: str, answer: Answer | str, classifier: Classifier) -> dict[str, Any]:
    """One line for programs."""
    if isinstance(answer, str):
        return {"image": name, "error": answer}
    labels = [{"label": one.name, "index": one.index, "probability": one.probability} for one in answer.labels]
    head = {"image": name, "label": answer.labels[0].name, "sure": answer.sure, "blank": answer.blank}
    head |= {"reason": answer.reason, "unlike": answer.unlike}
    return head | {"labels": labels, "model_sha256": classifier.digest}
