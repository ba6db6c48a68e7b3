"""The files that `vitlab look` leaves: pictures, report.html, README.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

from vitlab import files
from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS, preset_config
from vitlab.config.run import sections as sections_of_config
from vitlab.data import Dataset, load_dataset
from vitlab.errors import RunError
from vitlab.pictures.style import to_bytes, undrawable, with_article
from vitlab.report import attended, endured, inside, judged, learned, page, seen, studies
from vitlab.report.answer import answer, changed_knobs, show
from vitlab.report.card import MARK, card
from vitlab.report.gather import Subject, check_comparable, open_run, shown_images
from vitlab.report.parts import Missing, Picture, Section
from vitlab.runs.prepare import memory_errors

Note = Callable[[str], None]
# The seed page's: the picture's name, the network that cuts so, the digit.
SEED_PICTURES = (("patches-seed-32x6", "seed-32x6", 4), ("patches-seed-28x14", "seed-best", 6))
# Every picture of a run that there can be.
NAMES = (
    *("examples", "patches", "augmentation", "training", "confusion", "mistakes", "reliability", "classes"),
    *("attention", "deletion", "attention-heads", "attention-distance", "filters", "positions", "lens", "robustness"),
)
MOST_LETTERS = 12  # that a note names
DATA_PRESET = "small"  # whose augmentation a data set without a run is shown with


@dataclass
class Written:
    """What was written: pictures by name, other files, and what was left out, with the reason."""

    pictures: list[Path] = field(default_factory=list)
    report: Path | None = None
    card: Path | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def look_at_run(
    path: Path,
    beside: Sequence[Path],
    note: Note,
    asked: dict[str, Any],
    image: int | None = None,
    query: int | None = None,
) -> Written:
    """Draw everything about a run, with the runs ``beside`` it, and write it into its folder.

    ``image`` and ``query`` choose the image and the patch of the pictures that show one.
    """
    subject = open_run(path, note, asked)
    others = [open_run(other, note, asked) for other in beside]
    for other in others:
        check_comparable(subject, other)
    check_names([subject, *others])
    if query is not None and not (subject.is_vit and 0 <= query < subject.squares.grid**2):
        raise RunError(f"{path} has no patch {query + 1} for --patch; {patches_phrase(subject)}")
    numbers = shown_images(subject, image)
    with memory_errors("drawing"):
        sections = sections_of_run(subject, others, numbers, query)
        written, images = write_pictures(sections, path / "pictures")
    forget_others(path / "pictures", written.pictures)
    about = subject.environment
    text = page.page(
        subject.name,
        f"A run of vitlab on {subject.dataset.card.title}, begun {about['started_utc'][:10]}",
        answer(subject, others),
        sections,
        images,
        {"Configuration": knob_tables(subject.config), "Environment": environment_tables(subject)},
        f"Made by vitlab look, vitlab {about['vitlab']}. Every number is also in result.json and history.jsonl.",
    )
    written.report = path / "report.html"
    files.write_bytes(written.report, text.encode("utf-8", "replace"))
    write_card(subject, sections, written, note)
    return written


def sections_of_run(
    subject: Subject, others: Sequence[Subject], numbers: list[int], query: int | None = None
) -> list[Section]:
    """Every picture of a run; ``numbers`` are the images that some of them show (`gather.shown_images`)."""
    names = [*subject.classes, *(one.name for one in (subject, *others))]
    return [
        with_letters(seen.section(subject, numbers), names),
        learned.section(subject, others),
        judged.section(subject),
        attended.section(subject, numbers, query),
        inside.section(subject, numbers),
        endured.section(subject, others, numbers[0]),
    ]


def with_letters(section: Section, names: Sequence[str]) -> Section:
    """The section, with a note where a picture cannot write the ``names``."""
    letters = undrawable(names)
    if not letters:
        return section
    shown = letters if len(letters) <= MOST_LETTERS else f"{letters[:MOST_LETTERS]}…"
    why = f"no font on this machine has {shown}: they are boxes; install one such as Noto Sans CJK, and look again"
    return Section(section.title, [*section.parts, Missing("Some letters of names", why)])


def check_names(subjects: Sequence[Subject]) -> None:
    """RunError if two runs could not be told apart in a legend."""
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise RunError(f"two of the runs are called {name}; give --beside another run, or rename a folder")


def patches_phrase(subject: Subject) -> str:
    """Which numbers there are."""
    return f"its patches are 1 to {subject.squares.grid**2}" if subject.is_vit else "it is a convolutional network"


def write_pictures(sections: Sequence[Section], folder: Path) -> tuple[Written, dict[str, tuple[str, bytes]]]:
    """Every picture as PNG, those of lines as SVG too; and the bytes that the page takes of each."""
    files.make_folder(folder)
    written, images = Written(), dict[str, tuple[str, bytes]]()
    for section in sections:
        for part in section.parts:
            if isinstance(part, Missing):
                written.left_out[part.title] = part.reason
                continue
            kinds: tuple[Literal["png", "svg"], ...] = ("png", "svg") if part.vector else ("png",)
            for kind in kinds:
                data = to_bytes(part.figure, kind)
                files.write_bytes(folder / f"{part.name}.{kind}", data)
                written.pictures.append(folder / f"{part.name}.{kind}")
                images[part.name] = (kind, data)
                part.figure.set_layout_engine("none")  # once found, the layout holds for the other kind too
    return written, images


def forget_others(folder: Path, kept: Sequence[Path]) -> None:
    """Delete the pictures of an earlier look that are not made any more; other files are not ours."""
    for path in [folder / f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]:
        if path not in kept:
            files.remove(path)


def write_card(subject: Subject, sections: Sequence[Section], written: Written, note: Note) -> None:
    """README.md, unless somebody has made it their own."""
    path = subject.path / "README.md"
    if path.exists() and MARK not in files.read_bytes(path).decode(errors="replace"):
        note(f"{path} is not ours any more, so it is left as it is")
        return
    files.write_bytes(path, card(subject, sections).encode("utf-8", "replace"))
    written.card = path


def knob_tables(config: RunConfig) -> list[page.Table]:
    """Every knob by section; those that differ from the preset's in bold."""
    preset = PRESETS[config.preset].config if config.preset in PRESETS else None
    changed = changed_knobs(config, preset) if preset else {}
    made = []
    for name, section in sections_of_config(config).items():
        rows = [[knob, place_name(value) if knob == "data" else show(value)] for knob, value in vars(section).items()]
        bold = frozenset((number, 1) for number, (knob, _) in enumerate(rows) if knob in changed)
        made.append(page.Table(name, (), rows, bold))
    return made


def environment_tables(subject: Subject) -> list[page.Table]:
    """environment.json and result.json as they are."""
    tables = {"environment.json": subject.environment, "result.json": subject.result.to_dict()}
    return [
        page.Table(
            name, (), [[key, place_name(value) if key == "data" else plain(value)] for key, value in values.items()]
        )
        for name, values in tables.items()
    ]


def place_name(data: Any) -> str:
    """A data set's name; of a folder of one's own the last part: where it lies is nobody's business."""
    return PurePath(str(data)).name


def plain(value: Any) -> str:
    """A value of a JSON file for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " to ".join(map(plain, value)) if len(value) == 2 else str(len(value)) if value else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def look_at_data(data: str, out: Path, note: Note) -> Written:
    """Draw a data set without a run, and write its pictures into ``out``."""
    return write_pictures([section_of_data(load_dataset(data, note))], out)[0]


def section_of_data(dataset: Dataset) -> Section:
    """Examples, the seed page's two patch pictures, augmentation at the strengths of the default preset (mirrored only
    where the data may be)."""
    images, labels, classes = dataset.train.images, dataset.train.labels, dataset.card.classes
    parts: list[Picture | Missing] = [seen.examples(dataset)]
    for name, preset, digit in SEED_PICTURES:
        label = min(digit, len(classes) - 1)
        first = int((labels == label).argmax())
        what = f"the first {classes[label]} of the training images"
        config = preset_config(preset).model
        size = f"{config.image_size} x {config.image_size}"
        title = f"{with_article(classes[label], 'A')} at {size}, patches of {config.patch_size}"
        parts.append(replace(seen.patches(images[first], config, name, what), title=title))
    strengths = replace(preset_config(DATA_PRESET).augment, flip=dataset.card.may_flip)
    text = f"These are the strengths of the preset {DATA_PRESET}."
    image = images[int((labels == min(SEED_PICTURES[0][2], len(classes) - 1)).argmax())]
    parts.append(seen.augmentation(image, max(dataset.card.height, dataset.card.width), strengths, text))
    return with_letters(Section("Data", parts), classes)


def look_at_study(folder: Path, runs: Path) -> Written:
    """The report of a study, from its table and its rows; the study's own picture, which bears its name, stays."""
    about, lines = studies.read_lines(folder)
    sections = studies.sections_of(about, lines)
    written, images = write_pictures(sections, folder / "pictures")
    text = page.page(
        studies.title_of(folder),
        f"{len(lines)} cells, accuracy on {about['accuracy_on']} images",
        studies.answer_of(about, lines),
        sections,
        images,
        studies.tables_of(folder, runs, about, lines),
        studies.notes_of(about, lines),
    )
    written.report = folder / "report.html"
    files.write_bytes(written.report, text.encode("utf-8", "replace"))
    return written
