"""A run as a whole: the head of its report (how good the network is, what it cost, how that compares), and its model
card, README.md in the usual sections (Mitchell et al. 2019, "Model Cards for Model Reporting")."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS
from vitlab.data import CATALOGUE, drawn
from vitlab.look.report import Answer, Section, chance_words, markdown, templates
from vitlab.look.run import Subject
from vitlab.predict.classifier import drawing_in
from vitlab.runs.folder import RunFolder
from vitlab.runs.result import class_rows, shown_metrics
from vitlab.text import between, counted, duration, listed, percent, value

# As long as README.md holds the start of this line, `vitlab look` overwrites it.
MARK = "<!-- Made by `vitlab look`"
MARK_LINE = f"{MARK}, which overwrites this file; delete this line to keep your changes. -->"
SHOWN = ("confusion", "attention", "deletion", "robustness")  # pictures
LIMITS = ("classes", "reliability", "robustness")  # pictures whose facts are limits of the network


def answer(subject: Subject, others: Sequence[Subject]) -> Answer:
    """The head of the report of ``subject``, compared with its preset and with ``others``."""
    result = subject.result
    accuracy, interval = subject.headline
    head = percent(result["params_by_part"].get("head", 0) / result["params"], 0)
    metrics = shown_metrics(result) if subject.part == "test" else ()
    facts = [
        ("Training", f"{duration(result['train_seconds'])} on {subject.machine_line}"),
        *((label[0].upper() + label[1:], text) for label, text in metrics),
        ("Parameters", f"{result['params']:,}, {head} of them in the classification head"),
        ("Forward pass", f"{result['flops_per_image'] / 1e6:,.1f} million operations per image"),
        ("Network", f"{subject.network.name}, {subject.network.line}"),
        ("Data", f"{subject.dataset.card.title}: {counted(result['train_images'], 'training image')}"),
    ]
    comparisons, stored = caveats(subject), result["test_top1"]
    if subject.part == "test" and stored is not None and abs(stored - subject.accuracy) > 1e-9:
        here = f"which classifies {percent(subject.accuracy)} correctly: its rounding differs"
        comparisons.append(f"The pictures below were computed on this machine, {here}.")
    comparisons += [*preset_sentences(subject), *(other_sentence(subject, other) for other in others)]
    sentence = f"of {subject.counted_images()} are classified correctly (95 % interval {between(interval)})."
    return Answer(percent(accuracy), sentence, facts, comparisons)


def caveats(subject: Subject) -> list[str]:
    """Reasons to doubt the accuracy."""
    said = []
    if subject.result["status"] == "diverged":
        kept = f"These are the weights of epoch {subject.result['selected_epoch']}."
        said.append(f"The run diverged: its loss became infinite or NaN. {kept}")
    if hidden := subject.result.what_accuracy_hides():
        said.append(f"{hidden[0].upper()}{hidden[1:]}.")
    if subject.part != "test":
        seen = "were used for training" if subject.part == "training" else "may have selected the epoch"
        said.append(f"The data set has no test images; these {seen}, so this accuracy is optimistic.")
    return said


def preset_sentences(subject: Subject) -> list[str]:
    """The accuracy expected of the preset, and that of its source."""
    config = subject.config
    preset = PRESETS.get(config.preset or "")
    if preset is None:
        return []
    if config.changed_knobs(preset.config):
        return [f"Configuration: {preset_phrase(config)}."]
    said = [f"Expected of the preset {config.preset}: {preset.expected}"]
    if preset.published and subject.part == "test":
        published, seconds = preset.published
        accuracy, (low, high) = subject.headline
        said.append(
            f"Compared with the seed page: {100 * accuracy - published:+.2f} percentage points in "
            f"{percent(subject.result['train_seconds'] / seconds, 0)} of the time; the published accuracy is "
            f"{'inside' if 100 * low <= published <= 100 * high else 'outside'} this run's interval."
        )
    return said


def preset_phrase(config: RunConfig) -> str:
    """The preset, and what was changed in it."""
    if config.preset not in PRESETS:
        return "a custom configuration"
    changed = config.changed_knobs(PRESETS[config.preset].config)
    knobs = [f"{name} {value(setting)}" for name, setting in changed.items()]
    return f"the preset {config.preset}" + (f" with {listed(knobs)}" if knobs else "")


def other_sentence(subject: Subject, other: Subject) -> str:
    """Two runs on the same images: accuracy, time, and the number of images on which only one of them is right."""
    labels = subject.images.labels
    own, theirs = subject.guesses == labels, other.guesses == labels
    alone, other_alone = int((own & ~theirs).sum()), int((~own & theirs).sum())
    chance = sign_test(alone, other_alone)
    ratio = other.result["train_seconds"] / max(subject.result["train_seconds"], 1e-9)
    speed = f"was {ratio:.1f} times as fast" if ratio >= 1 else f"took {1 / ratio:.1f} times as long"
    return (
        f"Compared with {other.name} ({preset_phrase(other.config)}): {percent(other.headline[0])} in "
        f"{duration(other.result['train_seconds'])} with {other.result['params']:,} parameters. "
        f"{subject.name} {speed}. Only {subject.name} is right on {counted(alone, 'image')}, only {other.name} on "
        f"{counted(other_alone, 'image')}: {chance_words(chance)} (exact sign test, p = {chance:.2g})."
    )


def sign_test(wins: int, losses: int) -> float:
    """How often a fair coin splits at least as unevenly (two-sided): McNemar's exact test of two networks on the same
    images; 1 without any difference."""
    from scipy import stats

    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def card(subject: Subject, sections: Sequence[Section]) -> str:
    """The whole file. ``sections`` give sentences and alternative texts; the figures are those in pictures/."""
    from markupsafe import Markup

    pictures = {picture.name: picture for section in sections for picture in section.pictures}
    about = subject.dataset.card
    known = None if about.layout in ("folder", "npz") else CATALOGUE.get(about.name)  # a folder may be called mnist
    made = templates(False, lambda value: value if isinstance(value, Markup) else markdown(value))
    return made.get_template("card.md.j2").render(
        mark=MARK_LINE, run=subject, known=known, metrics=list(shown_metrics(subject.result)),
        by_class=class_rows(subject.result),
        caveats=caveats(subject), steps=preparation(subject),
        limits=[pictures[name].fact or pictures[name].text for name in LIMITS if name in pictures],
        shown=[pictures[name] for name in SHOWN if name in pictures],
        missing=[missing for section in sections for missing in section.missing],
        drawing=drawing_in(RunFolder(subject.path).data(), subject.config), drawn=drawn,
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
