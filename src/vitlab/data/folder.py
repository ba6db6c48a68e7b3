"""A folder of images as a data set. Each class is a sub-folder (layout.py finds them), or labels are in tables
(tables.py).

A file is recognised by its content, never by its name. Files that cannot be used are skipped and reported. The headers
are read first, because they give the size that all images get; then each image is decoded and resized at once, in
threads, so that photos of any size take no more memory than what is kept of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitlab.data import cache, tables, tiff
from vitlab.data.ahead import ahead
from vitlab.data.cards import Dataset, Reading, own_card
from vitlab.data.depth import bytes_of_pixel, check_channels, depth_of, dtype_of, lost_lines
from vitlab.data.images import (
    ALL,
    DECODING,
    MAX_PIXELS,
    Depth,
    Eight,
    ImageError,
    Pixels,
    bits_of,
    decode_layers,
    format_of,
    looks_like_an_image,
    over,
    read_file,
    resize,
    size_of,
    tags_at,
)
from vitlab.data.large import Place, Spill, open_parts, write_parts
from vitlab.data.layout import DEEPER, NO_IMAGE, PARTS, Layout, find_parts, has_classes, is_image
from vitlab.data.paths import is_run, natural, one_form, open_regular
from vitlab.data.splits import Split
from vitlab.data.stored import MOST, most_in_memory
from vitlab.errors import DataError
from vitlab.files import sha256
from vitlab.text import counted, listed, quoted

HEAD = 4096  # bytes of a file that show what it is
SMALL = 28  # pixels: images of up to this side are kept as they are, since drawings like MNIST's must not be blurred
SPARE = 4  # and in the first way of decoding, those of up to this many times the network's side
TOGETHER = 64  # images that threads have begun to read; fewer if they are large
READ_BYTES = 32 * 2**20  # of what is kept of these
PHOTO_SIDE = 256  # what is kept of larger photos when no network is known
BACKGROUNDS = (0, 255, 127)  # what transparency may become, the first that shows the ink
FAINT = 40.0  # ink that differs less from the background, in grey levels, cannot be seen
CLEAR = 0.05  # share of an image that must be transparent for its ink to be asked
STRAYS = 0.01  # share of such images whose ink may vanish

OWN_FOLDERS = ("checkpoints", "epochs", "pictures")  # of a run

Size = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """A file in the folder of a class: its name in one form, its size if it looks readable, the ``bits`` that can be
    kept of each number, and what it states if it is a TIFF."""

    path: Path
    label: str
    size: Size | None
    is_image: bool
    bits: int = 8
    tags: tiff.Tags | None = None

    @property
    def pixels(self) -> int:
        """How many it has, as far as is known."""
        return self.size[0] * self.size[1] if self.size else 0


@dataclass
class Harvest:
    """The images that were read, by part: [H, W, C] of one size and of ``depth``, or where in ``spill`` they are; the
    transparency of those that have some; the brightness of their ink; the digest of every image file; the name of each
    file, by part; what could not be kept of how many of them."""

    depth: Depth | None = None
    spill: Spill | None = None
    images: dict[str, list[tuple[Pixels | Place, str]]] = field(default_factory=dict)
    alphas: dict[tuple[str, int], Eight] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    inks: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    num_resized: int = 0


class Decoded(NamedTuple):
    """An image as it is kept, its transparency and the brightness of its ink, the digest of its file, whether it was
    resized, and what of the file could not be kept."""

    pixels: Pixels
    alpha: Eight | None
    ink: float | None
    digest: str
    is_resized: bool
    lost: str


def load_folder(
    root: Path,
    log: Callable[[str], None],
    side: int | None = None,
    reading: Reading | None = None,
    labels: tuple[str, ...] | None = None,
    decoding: int = DECODING,
) -> Dataset:
    """Read the images below ``root``; DataError when they do not make a data set. Those that do not fit into memory
    are decoded once, into the user's cache.

    ``side``: of the squares that the network sees; larger images are reduced to it. ``reading``: as the run read them
    that they are loaded for. ``labels``: names of the tables that hold the labels. ``decoding``: see `images`.
    """
    decoding = reading.decoding if reading else decoding
    is_old = reading is not None and reading.is_old
    kinds = reading.formats if reading else ALL
    names = labels if reading is None else reading.tables
    layout, found = find_files(root, kinds, names, is_old, log)
    shown = {one.label for one in found["train"]}
    if len(shown) == 1 and not layout.left_out:
        raise _one_class(layout, shown.pop())
    if reading is None:
        _refuse_unreadable(found["train"], layout)
    sizes = [one.size for one in found["train"] if one.size]
    size, why = choose_size(sizes, sum(map(len, found.values())), side, reading, decoding)
    everything = [one for files in found.values() for one in files]
    depth = depth_of(everything, reading, log)
    if bytes_of_pixel(everything, depth) * len(everything) * size[0] * size[1] > most_in_memory():
        harvest, under, classes, splits = _on_disk(found, size, kinds, layout, reading, decoding, (why, log), depth)
    else:
        harvest = Harvest(depth)
        _read_all(found, size, kinds, layout, reading, decoding, harvest)
        _report(layout, harvest, size, why, log)
        _check_counts(layout, harvest)
        classes = _class_names(layout, harvest, found, reading)
        under = reading.background if reading else _choose_background(harvest, log)
        splits = _to_splits(layout, classes, harvest, size, under)
    name = root.resolve().name
    card = own_card(name, f"images of the folder {name}", splits["train"].images, classes, str(root), "folder")
    digest = sha256("\n".join(harvest.digests).encode(errors="surrogateescape"))
    origin, skipped = (
        f"the folder {root}",
        (*layout.skipped, *(f"{name} is left out: {why}" for name, why in layout.left_out)),
    )
    val, test = splits.get("val"), splits.get("test")
    stored = Counter(one.size for files in found.values() for one in files if one.size)
    return Dataset(
        card=card,
        train=splits["train"],
        val=val,
        test=test,
        digest=digest,
        origin=origin,
        unreadable=skipped,
        background=under,
        formats=kinds,
        tables=layout.tables,
        sizes=stored,
        files=tuple(harvest.files["train"]),
        alpha=depth is None or depth.alpha,
    )


# ---- which files ----


def find_files(
    root: Path, kinds: tuple[str, ...], names: tuple[str, ...] | None, is_old: bool, log: Callable[[str], None]
) -> tuple[Layout, dict[str, list[Found]]]:
    """The files of each part: by the tables ``names`` (None: if there are some that fit), else by their folders."""
    if names is None or names:
        found = _listed(root, kinds, names, log)
        if found is not None:
            return found
    layout = find_parts(root, is_old)
    return layout, {part: list(_files_of(folder, layout, kinds)) for part, folder in layout.parts.items()}


def _listed(
    root: Path, kinds: tuple[str, ...], names: tuple[str, ...] | None, log: Callable[[str], None]
) -> tuple[Layout, dict[str, list[Found]]] | None:
    """The files that tables name; None if there are no such tables. DataError if those called ``names`` are gone."""
    layout = Layout(root)
    there = tables.tables_in(root)
    used = [one for one in there if one.path.name in names and one.is_of_labels] if names else tables.chosen(there)
    is_guess = any(one.is_guess and one.path.stem.casefold() not in tables.WHOLE for one in used)
    if is_guess and not names and has_classes(root):
        log(f"{listed([one.path.name for one in used])} has no column called label, so folders are the classes")
        return None
    labelled = tables.read_labels(used, layout) if used else None
    if labelled is None or "train" not in labelled.files:
        if used and (names or not has_classes(root)):
            raise tables.in_vain(used, root, labelled)
        if names:
            raise DataError(f"{root} has no {listed(list(names))} that names its images; restore it")
        return None
    for line in labelled.notes(used):
        log(line)
    layout.tables = tuple(one.path.name for one in used)
    layout.parts = {part: root for part in PARTS if part in labelled.files}
    return layout, {
        part: [_look_at(path, label, kinds) for path, label in sorted(labelled.files[part].items())]
        for part in layout.parts
    }


def _files_of(folder: Path, layout: Layout, kinds: tuple[str, ...]) -> Iterator[Found]:
    """The files in the sub-folders of the classes, sorted by folder and name; folders without images are left out."""
    layout.leave_out_junk(folder)
    for entry in layout.inside(folder):
        if entry.kind != "folder":
            layout.skip(entry.path, "is not in the sub-folder of a class")
        elif is_run(entry.path) or (entry.name in OWN_FOLDERS and is_run(folder)):
            layout.leave_out(entry.path, "a run of vitlab")
        else:
            yield from _files_of_class(entry.path, layout, kinds)


def _files_of_class(folder: Path, layout: Layout, kinds: tuple[str, ...]) -> list[Found]:
    entries = list(layout.inside(folder))
    files = [_look_at(one.path, one_form(folder.name), kinds) for one in entries if one.kind == "file"]
    if not any(one.is_image for one in files):
        inner = [name for one in entries if one.kind == "folder" for name in layout.inside(one.path)]
        layout.leave_out(folder, DEEPER if any(map(is_image, inner)) else NO_IMAGE)
        return []
    for one in entries:
        if one.kind != "file":
            layout.skip(one.path, "is not a file")
    return files


def _look_at(path: Path, label: str, kinds: tuple[str, ...]) -> Found:
    """What the first bytes of a file tell."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError:  # reported when it is read
        head = b""
    tags = tags_at(head, path)
    size = size_of(head, path, tags) if format_of(head) in kinds else None
    return Found(path, label, size, looks_like_an_image(head, path.name), bits_of(head, tags), tags)


def _refuse_unreadable(files: list[Found], layout: Layout) -> None:
    """DataError for a class of which no training image can be read, before much time is spent on the others."""
    readable = Counter(one.label for one in files if one.size)
    lost = [one for one in files if one.is_image and one.label not in readable]
    if lost and readable.total() > 1:
        raise _no_image(lost[0].label, _reason(lost[0].path, layout))


def _reason(path: Path, layout: Layout) -> str:
    try:
        decode_layers(read_file(path), layout.name(path), strict=False, depth=Depth())
    except ImageError as error:
        return str(error)
    return f"{layout.name(path)} does not state its size"


def _no_image(label: str, reason: str) -> DataError:
    return DataError(
        f"no training image of the class {label!r} can be read ({reason}); correct that, or remove the folder"
    )


def _one_class(layout: Layout, label: str) -> DataError:
    rest = f"; left out: {layout.told()}" if layout.left_out else ""
    needs = "two or more" if layout.tables else "two or more sub-folders"
    return DataError(f"{layout.parts['train']} has only one class, {label!r}{rest}; a classifier needs {needs}")


def _class_names(
    layout: Layout, harvest: Harvest, found: dict[str, list[Found]], reading: Reading | None
) -> tuple[str, ...]:
    """The classes in natural order, or as the run has them; DataError for a class without training images."""
    labels = {one.label for files in found.values() for one in files}
    if reading and labels <= set(map(one_form, reading.classes)):
        return reading.classes
    shown = {label for _, label in harvest.images["train"]}
    train = layout.parts["train"]
    for one in found["train"]:
        if one.label not in shown:
            first = next((text for text in layout.skipped if text.startswith(layout.name(one.path.parent))), "")
            raise _no_image(one.label, first)
    for one in (one for part, files in found.items() if part != "train" for one in files):
        if one.label not in shown:
            if layout.tables:
                raise DataError(f"no training image is labelled {one.label!r}, as {layout.name(one.path)} is; add some")
            raise DataError(f"{one.path.parent} is a class that {train} lacks; add it there or remove it")
    for label in shown:
        if not label.isprintable():
            raise DataError(f"{train} has a class {label!a} whose name cannot be printed; rename it")
    if len(shown) < 2:
        raise _one_class(layout, min(shown))
    return tuple(sorted(shown, key=natural))


# ---- their size and their pixels ----


def choose_size(
    sizes: list[Size], count: int, side: int | None, reading: Reading | None, decoding: int = DECODING
) -> tuple[Size, str]:
    """(height, width) that ``count`` images get, and what it is, from the ``sizes`` of the training images.

    That of the majority, else the medians of heights and widths; of images that are larger than the network's ``side``
    (in the first way of ``decoding``: much larger), or too many for most memories, what the network sees.
    """
    if reading and reading.size:
        return reading.size, "as in training"
    if reading:  # of a run that did not record the size
        return Counter(sizes).most_common(1)[0][0] if sizes else (1, 1), "the most common size"
    (height, width), why = usual_size(sizes)
    most = 0 if side is None else max(SMALL, side) if decoding >= DECODING else SPARE * side
    is_large = side is not None and max(height, width) > most
    if is_large or height * width > MAX_PIXELS or 3 * count * height * width > MOST:
        most = side or PHOTO_SIDE
        height, width = min(height, most), min(width, most)
        why = "the size of the network's input" if side else "since they are large"
    return (height, width), why


def usual_size(sizes: list[Size]) -> tuple[Size, str]:
    """(height, width) of the majority of images, else the medians of heights and widths; and which of the two it is."""
    size, most = Counter(sizes).most_common(1)[0] if sizes else ((1, 1), 0)
    if 2 * most >= len(sizes):
        return size, "the most common size"
    middle = (len(sizes) - 1) // 2
    height, width = (sorted(values)[middle] for values in zip(*sizes, strict=True))
    return (height, width), "the median size"


def _read_all(
    found: dict[str, list[Found]],
    size: Size,
    kinds: tuple[str, ...],
    layout: Layout,
    reading: Reading | None,
    decoding: int,
    harvest: Harvest,
) -> None:
    is_old = reading is not None and reading.is_old
    read = partial(
        _read_image, size=size, kinds=kinds, layout=layout, decoding=decoding, is_old=is_old, depth=harvest.depth
    )
    together = max(1, min(TOGETHER, READ_BYTES // (3 * size[0] * size[1])))
    for part, files in found.items():
        harvest.images[part], harvest.files[part] = [], []
        images = chain.from_iterable(ahead(files, read, together))
        for one, image in zip(files, images, strict=True):
            _gather(part, one, image, layout, harvest)


def _on_disk(
    found: dict[str, list[Found]],
    size: Size,
    kinds: tuple[str, ...],
    layout: Layout,
    reading: Reading | None,
    decoding: int,
    words: tuple[str, Callable[[str], None]],
    depth: Depth | None,
) -> tuple[Harvest, int, tuple[str, ...], dict[str, Split]]:
    """What `load_folder` needs, with the images in the user's cache: they are decoded only if they are not there yet.
    ``words``: why they have that size, and where to say what was left out."""
    why, log = words
    name = _cache_name(found, size, kinds, layout, reading, decoding, depth)
    known, harvest = cache.opened(name), Harvest(depth)
    if known is None:
        log("the images do not fit into memory, so they stay on the disk and are read in batches")
        with Spill(cache.folder(), dtype_of(depth)) as harvest.spill:
            _read_all(found, size, kinds, layout, reading, decoding, harvest)
            _report(layout, harvest, size, why, log)
            _check_counts(layout, harvest)
            under = reading.background if reading else _choose_background(harvest, log)
            about = {
                "skipped": list(layout.skipped),
                "digests": harvest.digests,
                "resized": harvest.num_resized,
                "lost": harvest.lost,
                "background": under,
                "files": harvest.files,
                "labels": {part: [label for _, label in pairs] for part, pairs in harvest.images.items()},
            }
            write_parts(name, harvest.spill, _places(harvest), size, under, about, log)
        known = cache.opened(name)
        assert known is not None, "it was just written"
    file, about = known
    layout.skipped[:], harvest.digests, harvest.num_resized = about["skipped"], about["digests"], about["resized"]
    harvest.files, harvest.lost = about["files"], Counter(about.get("lost", {}))
    with file:
        stored = open_parts(file, about, size)
    harvest.images = {part: [(Place(0), label) for label in labels] for part, labels in about["labels"].items()}
    if harvest.spill is None:
        _report(layout, harvest, size, why, log)
    classes = _class_names(layout, harvest, found, reading)
    numbers = {one_form(label): number for number, label in enumerate(classes)}
    splits = {
        part: Split(stored[part], np.array([numbers[label] for label in labels], dtype=np.int64))
        for part, labels in about["labels"].items()
    }
    return harvest, about["background"], classes, splits


def _places(harvest: Harvest) -> dict[str, list[Place]]:
    return {part: [place for place, _ in pairs if isinstance(place, Place)] for part, pairs in harvest.images.items()}


def _cache_name(
    found: dict[str, list[Found]],
    size: Size,
    kinds: tuple[str, ...],
    layout: Layout,
    reading: Reading | None,
    decoding: int,
    depth: Depth | None,
) -> str:
    """A digest of everything that the decoded images depend on, without decoding one."""
    old, under = (reading.is_old, reading.background) if reading else (False, None)
    lines = [f"{decoding} {size} {' '.join(kinds)} {old} {under}"]
    if depth and any(one.tags is not None or one.bits > 8 for files in found.values() for one in files):
        lines.append(f"{depth.bits} {depth.alpha}")  # others are the same with and without it
    for part, files in found.items():
        for one in files:
            try:
                digest = sha256(read_file(one.path))
            except ImageError:
                digest = "unreadable"
            lines.append(f"{digest} {one.path.relative_to(layout.root).as_posix()}\t{part}\t{one.label}")
    return sha256("\n".join(lines).encode(errors="surrogateescape"))


def _read_image(
    one: Found, size: Size, kinds: tuple[str, ...], layout: Layout, decoding: int, is_old: bool, depth: Depth | None
) -> Decoded | ImageError:
    """An image as it is kept, or why it cannot be read."""
    if is_old and one.pixels > MAX_PIXELS:
        return ImageError(f"{layout.name(one.path)} has more than 4 million pixels")
    try:
        data = read_file(one.path)
        layers = decode_layers(
            data, layout.name(one.path), False, least=max(size), kinds=kinds, decoding=decoding, depth=depth
        )
    except ImageError as error:
        return error
    image, alpha, ink = resize(layers.pixels, *size), None, None
    if layers.alpha is not None:
        alpha = np.asarray(resize(layers.alpha[..., np.newaxis], *size)[..., 0], np.uint8)
        is_asked = layers.alpha.any() and layers.alpha.mean() <= 255 * (1 - CLEAR)
        ink = layers.ink if is_asked else None
    return Decoded(image, alpha, ink, sha256(data), image is not layers.pixels, layers.lost)


def _gather(part: str, one: Found, image: Decoded | ImageError, layout: Layout, harvest: Harvest) -> None:
    if isinstance(image, ImageError):
        layout.skipped.append(str(image))
        return
    if part == "train" and image.ink is not None:
        harvest.inks.append(image.ink)
    harvest.num_resized += image.is_resized
    harvest.lost[image.lost] += 1
    if harvest.spill is not None:
        harvest.images[part].append((harvest.spill.put(image.pixels, image.alpha), one.label))
    else:
        if image.alpha is not None:
            harvest.alphas[part, len(harvest.images[part])] = image.alpha
        harvest.images[part].append((image.pixels, one.label))
    harvest.files[part].append(layout.name(one.path))
    label = f"\t{part}\t{one.label}" if layout.tables else ""  # else the path says both
    harvest.digests.append(f"{image.digest} {one.path.relative_to(layout.root).as_posix()}{label}")


def _choose_background(harvest: Harvest, log: Callable[[str], None]) -> int:
    """One grey for all transparency: black if it shows the ink of (almost) all images, else white, else grey."""
    hidden = {under: sum(abs(ink - under) < FAINT for ink in harvest.inks) for under in BACKGROUNDS}
    fine = [under for under in BACKGROUNDS[:2] if hidden[under] <= STRAYS * len(harvest.inks)]
    under = fine[0] if fine else min(BACKGROUNDS, key=lambda one: hidden[one])
    if under:
        log(f"transparency becomes {'white' if under == 255 else 'grey'}, since ink would be invisible on black")
    return under


def _report(layout: Layout, harvest: Harvest, size: Size, why: str, log: Callable[[str], None]) -> None:
    """Say what was left out, skipped and resized."""
    skipped, read = layout.skipped, len(harvest.digests)
    if layout.left_out:
        log(f"left out: {layout.told()}")
    if skipped:
        more = f". And {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
        total = counted(len(skipped) + read, "file")
        log(f"skipped {len(skipped):,} of {total} in {layout.root}: {'. '.join(skipped[:3])}{more}")
    if harvest.num_resized:
        log(f"resized {harvest.num_resized:,} of {counted(read, 'image')} to {size[0]} x {size[1]}, {why}")
    for line in lost_lines(harvest.lost):
        log(line)


def _check_counts(layout: Layout, harvest: Harvest) -> None:
    """DataError when a part has too few images, or images that do not fit together."""
    left_out = f" (left out: {layout.told()})" if layout.left_out else ""
    first = f" ({layout.skipped[0]})" if layout.skipped else left_out
    for part, folder in layout.parts.items():
        count, least = len(harvest.images[part]), 2 if part == "train" else 1
        if count < least:
            deeper = next((path for path in _deeper(layout) if has_classes(path)), None)
            if part == "train" and deeper:
                raise DataError(f"{folder} has its images one folder deeper; use --data {quoted(deeper)}")
            raise DataError(f"{folder} has {counted(count, 'readable image')}{first}; {part} needs at least {least}")
    channels = {
        part: [one.channels if isinstance(one, Place) else one.shape[2] for one, _ in pairs]
        for part, pairs in harvest.images.items()
    }
    check_channels(channels, harvest.files)


def _deeper(layout: Layout) -> list[Path]:
    """The folders that are left out because their images lie in folders below."""
    return [layout.root / name for name, why in layout.left_out if why == DEEPER]


def _to_splits(layout: Layout, classes: tuple[str, ...], harvest: Harvest, size: Size, under: int) -> dict[str, Split]:
    """One Split for each part, all with the same channels; what was read is freed on the way."""
    pixels = {
        part: [image for image, _ in pairs if isinstance(image, np.ndarray)] for part, pairs in harvest.images.items()
    }
    channels = max(image.shape[2] for images in pixels.values() for image in images)
    numbers = {one_form(name): number for number, name in enumerate(classes)}
    splits = {}
    for part in layout.parts:
        labels = np.array([numbers[label] for _, label in harvest.images.pop(part)], dtype=np.int64)
        read = pixels.pop(part)
        images = np.empty((len(read), *size, channels), dtype_of(harvest.depth))
        for row in range(len(read) - 1, -1, -1):
            image = over(read.pop(), harvest.alphas.get((part, row)), under)
            images[row] = image  # grey [H, W, 1] fills all channels
        splits[part] = Split(images, labels)
    return splits
