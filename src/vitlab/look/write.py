"""The files that `vitlab look` writes: pictures, report.html, README.md."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from vitlab import files
from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS
from vitlab.config.run import sections as sections_of_config
from vitlab.data import load_dataset
from vitlab.errors import RunError, StorageError
from vitlab.look import attention, curves, images, inside, mistakes, robustness, study
from vitlab.look.report import Missing, Section, Table, templates
from vitlab.look.run import Subject, check_comparable, open_run, shown_images
from vitlab.look.style import is_ours, to_bytes, undrawable
from vitlab.look.summary import MARK, answer, card
from vitlab.runs.prepare import memory_errors
from vitlab.runs.seal import SEAL
from vitlab.studies.driver import read_study
from vitlab.studies.table import notes
from vitlab.text import counted, listed, printable, value

Note = Callable[[str], None]
# Every picture of a run that may exist.
NAMES = (
    *("examples", "patches", "augmentation", "mixing", "training", "confusion", "mistakes", "reliability", "classes"),
    *("attention", "deletion", "attention-heads", "attention-distance", "filters", "positions", "lens", "robustness"),
)

MOST_LETTERS = 12  # that a note lists


@dataclass
class Written:
    """The files that were written, and what was left out, with the reason."""

    pictures: list[Path] = field(default_factory=list)
    report: Path | None = None
    card: Path | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def look_at_run(
    path: Path, beside: Sequence[Path], note: Note, asked: dict[str, Any], image: int | None, query: int | None
) -> Written:
    """Draw everything about a run, compared with the runs ``beside``, and write it into its folder. ``image`` and
    ``query`` choose the image and the patch for the pictures that show one."""
    subject = open_run(path, note, asked)
    others = [open_run(other, note, asked) for other in beside]
    for other in others:
        check_comparable(subject, other)
    names = [one.name for one in (subject, *others)]
    for name in names:
        if names.count(name) > 1:
            raise RunError(f"two of the runs are called {name}; give --beside another run, or rename a folder")
    patches, reason = subject.network.squares.grid**2, subject.network.missing.get("patches")
    if query is not None and (reason or not 0 <= query < patches):
        raise RunError(f"{path} has no patch {query + 1} for --patch: {reason or f'choose one from 1 to {patches}'}")
    numbers = shown_images(subject, image)
    started, version = subject.environment["started_utc"][:10], subject.environment["vitlab"]
    files_of_run = {"environment.json": subject.environment, "result.json": subject.result.to_dict()}
    shown = {name: {key: it for key, it in values.items() if key not in SEAL} for name, values in files_of_run.items()}
    environment = [Table(name, (), rows_of(values, _readable)) for name, values in shown.items()]
    files.check_inner_folder(path / "pictures")  # before minutes of drawing
    with memory_errors("drawing"):
        sections = sections_of_run(subject, others, numbers, query)
        written = write_report(
            path,
            sections,
            title=subject.name,
            subtitle=f"Trained with vitlab on {subject.dataset.card.title}, {started}",
            answer=answer(subject, others),
            tables={"Configuration": knob_tables(subject.config), "Environment": environment},
            footer=f"Made by vitlab look, vitlab {version}. The numbers are also in result.json and history.jsonl.",
        )
    for old in [path / "pictures" / f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]:
        if old not in written.pictures:
            files.remove(old)  # of an earlier look; other files are the user's
    readme = path / "README.md"
    if files.exists(readme) and not is_card(readme):
        note(
            f"{readme} {'was edited' if files.is_ordinary(readme) else 'is not an ordinary file'}; leaving it unchanged"
        )
    else:
        files.write_bytes(readme, card(subject, sections).encode("utf-8", "replace"))
        written.card = readme
    return written


def is_card(readme: Path) -> bool:
    """Whether a model card is as `vitlab look` wrote it."""
    return files.is_ordinary(readme) and MARK in files.read_bytes(readme).decode(errors="replace")


def is_picture(path: Path) -> bool:
    """Whether a file is a picture that `vitlab look` wrote."""
    return path.suffix == ".png" and files.is_ordinary(path) and is_ours(files.read_bytes(path))


def look_at_data(data: str, out: Path, note: Note) -> Written:
    """Draw a data set without a run, and write its pictures into ``out``. StorageError if other files are there, which
    they might overwrite, or be taken for images."""
    others = [name for name in files.names_in(out) if not is_picture(out / name)]
    if others:
        raise StorageError(
            f"{out} holds files that vitlab look did not write, such as {others[0]}; choose another --out"
        )
    dataset = load_dataset(data, note)
    return write_pictures([note_letters(images.data_section(dataset), dataset.card.classes)], out)[0]


def look_at_study(folder: Path, runs: Path) -> Written:
    """Write the report of a study from its table and its rows; its own picture, of the same name, stays."""
    about, lines, rows = study.read_lines(folder, runs)
    measured = listed(sorted({line.split for line in lines if line.split})) or "no"
    return write_report(
        folder,
        study.sections(lines),
        title=f"Study {read_study(folder)['name']}",
        subtitle=f"{counted(len(lines), 'cell')}, accuracy on {measured} images",
        answer=study.answer(lines),
        tables=study.tables(folder, runs, lines, rows),
        footer=" ".join(notes(lines, about["circumstances"])),
    )


def sections_of_run(
    subject: Subject, others: Sequence[Subject], numbers: list[int], query: int | None = None
) -> list[Section]:
    """Every picture of a run, what readers ask for first at the top; ``numbers`` are the images that some of
    them show (`run.shown_images`)."""
    names = [*subject.classes, *(one.name for one in (subject, *others))]
    return [
        mistakes.section(subject),
        attention.section(subject, numbers, query),
        robustness.section(subject, others, numbers[0]),
        curves.section(subject, others),
        note_letters(images.section(subject, numbers), names)._replace(is_folded=True),
        inside.section(subject, numbers)._replace(is_folded=True),
    ]


def note_letters(section: Section, names: Sequence[str]) -> Section:
    """The section, with a note if figures cannot show some letters of ``names``."""
    letters = undrawable(names)
    if not letters:
        return section
    shown = letters if len(letters) <= MOST_LETTERS else f"{letters[:MOST_LETTERS]}…"
    reason = f"no font on this machine has {shown}; they appear as boxes until you install one such as Noto Sans CJK"
    return section._replace(parts=[*section.parts, Missing("Some letters of names", reason)])


def write_report(folder: Path, sections: Sequence[Section], **parts: Any) -> Written:
    """Write report.html, with the other ``parts`` that its template names, and its pictures into pictures/."""
    written, images = write_pictures(sections, files.inner_folder(folder / "pictures"))
    written.report = folder / "report.html"
    made = templates(True, lambda value: printable(value) if type(value) is str else value)
    page = made.get_template("report.html.j2").render(parts, sections=sections, images=images)
    files.write_bytes(written.report, page.encode("utf-8", "replace"))
    return written


def write_pictures(sections: Sequence[Section], folder: Path) -> tuple[Written, dict[str, str]]:
    """Write every picture as PNG and those of lines as SVG too; return also what the page embeds."""
    files.make_folder(folder)
    written, embedded = Written(), {}
    for picture in [picture for section in sections for picture in section.pictures]:
        for kind in ("png", "svg") if picture.vector else ("png",):
            path, data = folder / f"{picture.name}.{kind}", to_bytes(picture.figure, kind)
            files.write_bytes(path, data)
            written.pictures.append(path)
            media = {"png": "image/png", "svg": "image/svg+xml"}[kind]
            embedded[picture.name] = f"data:{media};base64,{base64.b64encode(data).decode()}"
            picture.figure.set_layout_engine("none")  # the layout that was found is the same for the other kind
    written.left_out = {missing.title: missing.reason for section in sections for missing in section.missing}
    return written, embedded


def knob_tables(config: RunConfig) -> list[Table]:
    """Every knob by section; those that differ from the preset's in bold."""
    preset = PRESETS.get(config.preset or "")
    changed = config.changed_knobs(preset.config) if preset else {}
    made = []
    for name, section in sections_of_config(config).items():
        bold = frozenset((number, 1) for number, knob in enumerate(vars(section)) if knob in changed)
        made.append(Table(name, (), rows_of(vars(section), value), bold))
    return made


def rows_of(values: Mapping[str, Any], words: Callable[[Any], str]) -> list[list[str]]:
    """Names and values in ``words``. Of a user's data folder only the name: its place is private."""
    return [[key, PurePath(str(what)).name if key == "data" else words(what)] for key, what in values.items()]


def _readable(what: Any) -> str:
    if isinstance(what, dict):
        return ", ".join(f"{key} {_readable(inner)}" for key, inner in what.items())
    if isinstance(what, list):
        return " to ".join(map(_readable, what)) if len(what) == 2 else str(len(what)) if what else "none"
    return f"{what:,}" if type(what) is int else value(what)
