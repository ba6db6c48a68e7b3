"""vitlab data."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from vitlab.cli import flags
from vitlab.errors import ConfigError, DataError
from vitlab.files import write_bytes
from vitlab.runs.zoo import writable
from vitlab.text import columns, counted, ignore, percent, printable, show, wrapped

WIDE = 120  # columns that the list of data sets needs for a line each


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "[list | fetch NAME ... | check NAME ... | describe PLACE | suspects RUN | clean] [options]"
    parser = flags.add_command(children, data, "list, fetch, check or describe data sets", usage)
    actions = ("list", "fetch", "check", "describe", "suspects", "clean")
    parser.add_argument("action", choices=actions, nargs="?", default="list", help="what to do [list]")
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="data sets to fetch; data sets, your own folders, .npz or .csv files to check or describe; a run",
    )
    add = parser.add_argument
    add("--folds", metavar="K", type=flags.whole_number(2, 20), default=4, help="networks to train for suspects [4]")
    add("--top", metavar="N", type=flags.count, default=20, help="suspects to print [20]")
    add("--data", metavar="PLACE", help="where the run's images are now, if they have moved")
    flags.add_output(parser)


def data(arguments: argparse.Namespace) -> int:
    """List the data sets that vitlab knows, download some of them, or verify the files on this machine. `describe`
    reads a data set or your own folder or file, and shows its classes, sizes, what may be wrong with it, and what
    vitlab would do with it; `check` lists only what may be wrong. `suspects` lists training images of a run whose label
    looks wrong to networks that were trained without them, and writes suspects.csv and suspects.png into the run.
    `clean` deletes decoded copies of images that do not fit into memory; they are made again when needed."""
    action, names = arguments.action, arguments.names
    if action in ("list", "clean") and names:
        raise ConfigError(f"vitlab data {action} takes no names; `vitlab data check NAME` verifies a data set")
    if action == "list":
        return list_data(arguments.json)
    if action == "clean":
        return clean_cache(arguments.json)
    if not names and action == "suspects":
        raise ConfigError("vitlab data suspects needs a run; `vitlab runs` lists yours")
    if not names:
        raise ConfigError(f"vitlab data {action} needs the name of a data set; `vitlab data list` shows them")
    from vitlab.data import CATALOGUE, check, fetch

    if action == "describe":
        return describe(names, arguments.json)
    if action == "suspects":
        return list_suspects(names, arguments)
    own = [name for name in names if name not in CATALOGUE]
    if action == "check" and own:
        if len(own) < len(names):
            raise ConfigError("check your own data and those of the catalogue in two commands")
        return check_own(own, arguments.json)
    if action == "fetch":
        note = flags.notes(arguments.quiet)
        rows = [dict(data=name, file=file, place=place) for name in names for file, place in fetch(name, note)]
    else:
        found = [(name, *row) for name in names for row in check(name)]
        rows = [dict(data=name, file=file, place=place, state=state) for name, file, place, state in found]
    for row in [] if arguments.json else rows:
        show("  ".join(row.values()))
    if arguments.json:
        flags.print_json(rows)
    bad = sum(row.get("state", "ok") != "ok" for row in rows)
    if bad:
        raise DataError(
            f"{bad} of {len(rows)} files are missing or damaged; `vitlab data fetch` replaces those in the cache"
        )
    return 0


def clean_cache(as_json: bool) -> int:
    """Delete the decoded images in the user's cache."""
    from vitlab.data import cache

    count, size = cache.clean()
    if as_json:
        flags.print_json({"files": count, "bytes": size})
    else:
        show(f"deleted {counted(count, 'file')} of decoded images, {size / 2**30:.1f} GiB, in {cache.folder()}")
    return 0


def check_own(places: list[str], as_json: bool) -> int:
    """What folders and .npz files hold, and what may be wrong with them; DataError for a place that is no data set."""
    from vitlab.data.inspection import inspect, summary

    found = {place: inspect(place) for place in places}
    if as_json:
        rows = [
            {"data": place, "classes": one.classes, "problems": one.problems(), "unreadable": one.unreadable}
            for place, one in found.items()
        ]
        flags.print_json(rows)
        return 0
    for place, one in found.items():
        show(f"{place}: {summary(one)}")
        for line in one.problems():
            show(f"  {line}")
    return 0


def describe(places: list[str], as_json: bool) -> int:
    """What data sets hold, what may be wrong with them, and what vitlab would do with them."""
    from vitlab.data.glance import fitted_to_data
    from vitlab.data.inspection import description, inspect

    for number, place in enumerate(places):
        found = inspect(place)
        if as_json:
            sizes = [{"size": size, "files": count} for size, count in found.sizes.items()]
            rest = {
                "shape": found.shape,
                "bits": found.bits,
                "sizes": sizes,
                "tables": found.tables,
                "drawings": found.are_drawings,
            }
            flags.print_json({"data": place, "classes": found.classes, "problems": found.problems()} | rest)
            continue
        lines = description(found, fitted_to_data(None, {"data": place}, ignore))
        show(*([""] if number else []), f"{place}: {lines[0]}", *lines[1:])
    return 0


def list_suspects(runs: list[str], arguments: argparse.Namespace) -> int:
    """Training images whose label looks wrong, printed and written into the run folder."""
    from vitlab.look.suspects import as_csv, draw
    from vitlab.runs.suspects import find_suspects

    if len(runs) > 1:
        raise ConfigError("look for suspects in one run at a time")
    note = flags.notes(arguments.quiet)
    run = writable(flags.run(runs[0]), note)
    found, dataset = find_suspects(run, arguments.folds, note, arguments.data)
    suspects, classes = [one for one in found if one.is_suspect], dataset.card.classes
    write_bytes(run / "suspects.csv", as_csv(found, classes).encode())
    write_bytes(run / "suspects.png", draw(found, dataset))
    top = suspects[: arguments.top]
    if arguments.json:
        rows = [asdict(one) | {"label": classes[one.label], "likely": classes[one.likely]} for one in suspects]
        flags.print_json({"run": str(run), "images": len(found), "suspects": rows})
        return 0
    total = counted(len(found), "training image")
    show(f"{len(suspects):,} of {total} have a label that looks wrong; the most suspect first:")
    for one in top:
        name = printable(one.file) or f"image {one.index}"
        given, likely = printable(classes[one.label]), printable(classes[one.likely])
        chance, other = percent(one.probability_of_label, 1), percent(one.probability_of_likely, 1)
        show(f"  {name}: labelled {given} ({chance}), likelier {likely} ({other})")
    show(f"all in {run / 'suspects.csv'}, the first in {run / 'suspects.png'}")
    return 0


def list_data(as_json: bool) -> int:
    """The catalogue: names, sizes, classes, licences."""
    from vitlab.data import CATALOGUE

    rows = [
        {
            "name": card.name,
            "title": card.title,
            "image": f"{card.height} x {card.width} x {card.channels}",
            "classes": len(card.classes),
            "may_flip": card.may_flip,
            "licence": card.licence,
            "source": card.source,
        }
        for card in CATALOGUE.values()
    ]
    if as_json:
        flags.print_json(rows)
        return 0
    for row in rows if columns() < WIDE else []:
        show(f"{row['name']}: {row['image']}, {row['classes']} classes")
        show(*wrapped(f"{row['title']} ({row['licence']})", "  ", "  "))
    for row in rows if columns() >= WIDE else []:
        show(f"{row['name']:<16}  {row['image']:<11}  {row['classes']:>3} classes  {row['title']} ({row['licence']})")
    also = "also: any folder of images with a sub-folder for each class or a table of labels, and .npz and .csv files"
    show(*wrapped(also))
    return 0
