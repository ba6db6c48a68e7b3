"""vitlab data."""

from __future__ import annotations

import argparse

from vitlab.cli import flags
from vitlab.errors import ConfigError, DataError
from vitlab.text import show


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "[list | fetch NAME ... | check NAME ...] [options]"
    parser = flags.add_command(children, data, "list, fetch or check data sets", usage)
    actions = ("list", "fetch", "check")
    parser.add_argument("action", choices=actions, nargs="?", default="list", help="what to do [list]")
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="data sets to fetch or check; your own folders or .npz files to check",
    )
    flags.add_output(parser)


def data(arguments: argparse.Namespace) -> int:
    """List the data sets that vitlab knows, download some of them, or verify the files on this machine. `check` also
    reads your own folders and .npz files, and says what may be wrong with them."""
    action, names = arguments.action, arguments.names
    if action == "list":
        if names:
            raise ConfigError("vitlab data list takes no names; `vitlab data check NAME` verifies a data set")
        return list_data(arguments.json)
    if not names:
        raise ConfigError(f"vitlab data {action} needs the name of a data set; `vitlab data list` shows them")
    from vitlab.data import CATALOGUE, check, fetch

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
    for row in rows:
        show(f"{row['name']:<16}  {row['image']:<11}  {row['classes']:>3} classes  {row['title']} ({row['licence']})")
    show("also: any folder of PNG or JPEG images with a sub-folder for each class, and .npz files")
    return 0
