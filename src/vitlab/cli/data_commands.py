"""vitlab data list, fetch, check."""

from __future__ import annotations

import sys

from vitlab.errors import DataError
from vitlab.files import to_json


def list_data(as_json: bool) -> int:
    """The catalogue: what there is, how large, under which licence."""
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
        print(to_json(rows, indent=None))
        return 0
    for row in rows:
        print(f"{row['name']:<16}  {row['image']:<11}  {row['classes']:>3} classes  {row['title']} ({row['licence']})")
    print("also: any folder of PNG or JPEG images with a sub-folder for each class, and .npz files")
    return 0


def fetch_data(names: list[str], as_json: bool, quiet: bool) -> int:
    """Bring data sets into the cache, verified."""
    from vitlab.data import fetch

    def note(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    rows = [{"data": name, "file": file, "place": place} for name in names for file, place in fetch(name, note)]
    for row in [] if as_json else rows:
        print(f"{row['data']}  {row['file']}  {row['place']}")
    if as_json:
        print(to_json(rows, indent=None))
    return 0


def check_data(names: list[str], as_json: bool) -> int:
    """Verify every file of data sets that is here; DataError if one is not as it should be."""
    from vitlab.data import check

    rows = [
        {"data": name, "file": file, "place": place, "state": state}
        for name in names
        for file, place, state in check(name)
    ]
    for row in [] if as_json else rows:
        print(f"{row['data']}  {row['file']}  {row['place']}  {row['state']}")
    if as_json:
        print(to_json(rows, indent=None))
    bad = [row for row in rows if row["state"] != "ok"]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(rows)} files are not as they should be; "
            "`vitlab data fetch` replaces those in the cache"
        )
    return 0
