"""vitlab predict."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vitlab.cli import flags
from vitlab.cli.load import load_torch
from vitlab.errors import ConfigError, DataError
from vitlab.runs.zoo import is_own, place
from vitlab.text import percent, quoted, say, show

if TYPE_CHECKING:
    from vitlab.predict import Answer, Classifier, ImageError
    from vitlab.predict.sources import Source

STANDARD = "-"  # input as IMAGE, output as --csv


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "RUN IMAGE [IMAGE ...] [options]"
    parser = flags.add_command(children, predict, "classify pictures with a trained network", usage)
    add = parser.add_argument
    add("run", metavar="RUN", type=flags.run, help=flags.A_RUN)
    images = "a file, a folder, a .csv table of pixels, an .npz file of images, or - for standard input"
    add("images", metavar="IMAGE", nargs="+", help=images)
    add("--top", metavar="N", type=flags.count, default=3, help="number of labels per image [3]")
    add("--no-center", dest="center", action="store_false", help="scale a drawing as a whole, without centring it")
    add("--csv", metavar="FILE", help="write a table with a line per image; - for standard output")
    columns = "with --csv: only these columns, as in ImageId,Label, or id,probabilities for a column per class"
    add("--columns", metavar="ID,LABEL", help=columns)
    add("--json", action="store_true", help="print one line of JSON per image, in their order")


def predict(arguments: argparse.Namespace) -> int:
    """Print ranked labels for images of any size and mode, or write them into a table. If the network was trained on
    drawings that were scaled and centred like MNIST's digits, the ink is found on paper of any colour and prepared in
    the same way. A picture that cannot be read gets a line on standard error and makes the exit code 3; the others are
    classified."""
    check_options(arguments)
    load_torch()
    from vitlab.predict import Classifier
    from vitlab.predict.sources import source_of

    classifier = Classifier.load(arguments.run)
    sources = [source_of(word, classifier, say) for word in arguments.images]
    is_complete = (print_answers if arguments.csv is None else write_table)(classifier, sources, arguments)
    return 0 if is_complete else DataError.exit_code


def check_options(arguments: argparse.Namespace) -> None:
    """ConfigError for options that do not go together, and DataError for web addresses, before the network is
    loaded."""
    from vitlab.data.images import SUFFIXES
    from vitlab.data.instead import is_address

    runs = [word for word in arguments.images if is_own(place(word))]
    if runs and arguments.run.suffix.lower() in SUFFIXES:
        pictures = [str(arguments.run), *(word for word in arguments.images if word != runs[0])]
        raise ConfigError(f"the run comes first: `vitlab predict {quoted(runs[0])} {' '.join(map(quoted, pictures))}`")
    for word in filter(is_address, arguments.images):
        raise DataError(f"{word} is a web address, which vitlab does not read; download the picture and name that")
    if arguments.images.count(STANDARD) > 1:
        raise ConfigError("standard input (-) can be read only once; name it once")
    if arguments.csv is not None and arguments.json:
        raise ConfigError("--csv and --json cannot be combined; leave out one")
    if arguments.csv is None and arguments.columns is not None:
        raise ConfigError("--columns names the columns of --csv FILE; add that, or leave out --columns")
    if arguments.csv == "":
        raise ConfigError("--csv needs the name of a file, or - for standard output")


def answers(
    classifier: Classifier, sources: list[Source], center: bool
) -> Iterator[tuple[str, str, Answer | ImageError]]:
    """The name and the identifier of each picture in turn, with its answer or the error that says why there is none."""
    names: deque[tuple[str, str]] = deque()

    def pictures() -> Iterator[Any]:
        for source in sources:
            for name, identifier, picture in source.pictures():
                names.append((name, identifier))
                yield picture

    for answer in classifier.answers(pictures(), None if center else False):
        yield *names.popleft(), answer


def print_answers(classifier: Classifier, sources: list[Source], arguments: argparse.Namespace) -> bool:
    """A line for each picture; whether all could be read."""
    from vitlab.data.images import printable
    from vitlab.predict import ImageError

    width = max((len(printable(file)) for source in sources for file in source.files), default=0)
    is_complete = True
    for name, _, answer in answers(classifier, sources, arguments.center):
        if isinstance(answer, ImageError):
            is_complete = False
            say(f"vitlab: {answer}")
        if arguments.json:
            flags.print_json(as_row(name, answer, classifier, arguments.top))
        elif not isinstance(answer, ImageError):
            show(as_line(printable(name).ljust(width), answer, arguments.top))
    return is_complete


def write_table(classifier: Classifier, sources: list[Source], arguments: argparse.Namespace) -> bool:
    """All answers as --csv says, a bar while that takes time, and a line about them; whether all could be read."""
    from vitlab.predict import ImageError
    from vitlab.predict.table import Layout, Tally, as_csv, check_identifiers, read_columns
    from vitlab.progress import counting

    columns = None if arguments.columns is None else read_columns(arguments.columns)
    if columns is not None:
        check_identifiers([file for source in sources for file in source.files])
    layout, tally = Layout(classifier.classes, arguments.top, columns), Tally()
    counts = [source.count for source in sources]
    total = None if None in counts else sum(count or 0 for count in counts)
    with opened(arguments.csv) as file, counting(total, "pictures") as (note, advance):
        file.write(as_csv(layout.head))
        for name, identifier, answer in answers(classifier, sources, arguments.center):
            file.write(as_csv(layout.row(name, identifier, answer)))
            if isinstance(answer, ImageError):
                note(f"vitlab: {answer}")
            tally.add(answer)
            advance()
    line = tally.line(classifier.classes)
    if arguments.csv == STANDARD:
        say(line)
    else:
        show(f"{arguments.csv}: {line}")
    return not tally.unreadable


@contextmanager
def opened(name: str) -> Iterator[TextIO]:
    """The file to write, which appears when it is complete; or standard output."""
    from vitlab.files import make_folder, new_text

    if name != STANDARD:
        make_folder(Path(name).parent)
        with new_text(Path(name)) as file:
            yield file
    elif sys.stdout is None:
        raise ConfigError("standard output is closed; name a file for --csv")
    else:
        yield sys.stdout
        sys.stdout.flush()


def as_line(name: str, answer: Answer, top: int = 3) -> str:
    """One line for people: the label, its probability, and the next labels."""
    best, *others = answer.top(top)
    line = f"{name}  {best.name}  {percent(best.probability, 1)}"
    if others:
        line += f"   then {', '.join(f'{label.name} {percent(label.probability, 1)}' for label in others)}"
    if answer.reason:
        return f"{line}   not sure: {answer.reason}"
    if answer.unlike:
        return f"{line}   {answer.doubt}"
    return line if answer.sure else f"{line}   not sure"


def as_row(name: str, answer: Answer | ImageError, classifier: Classifier, top: int) -> dict[str, Any]:
    """One line for programs."""
    from vitlab.predict import ImageError

    if isinstance(answer, ImageError):
        return {"image": name, "error": str(answer)}
    best = answer.top(top)
    labels = [{"label": one.name, "index": one.index, "probability": one.probability} for one in best]
    head = {"image": name, "label": best[0].name, "sure": answer.sure, "blank": answer.blank}
    head |= {"reason": answer.reason, "unlike": answer.unlike}
    return head | {"labels": labels, "model_sha256": classifier.digest}
