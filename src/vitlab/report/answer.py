"""What stands first: how good the network is, what it cost, and how that compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitlab.config import RunConfig
from vitlab.config.knobs import flat_fields
from vitlab.config.presets import PRESETS
from vitlab.config.run import sections
from vitlab.report.gather import Subject
from vitlab.report.parts import between, counted, duration, listed, percent
from vitlab.runs.result import Result
from vitlab.training.evaluate import wilson_interval


@dataclass(frozen=True)
class Answer:
    """A number, the sentence that it begins, facts by their names, and comparisons in whole sentences."""

    number: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    comparisons: Sequence[str]


def answer(subject: Subject, others: Sequence[Subject]) -> Answer:
    """The answer of a run, from its result.json."""
    result, images = subject.result, counted(len(subject.images), f"{subject.part} image")
    accuracy, interval = headline(subject)
    sentence = f"of {images} are recognised (95 % interval {between(interval)})."
    facts = [
        ("Training", f"{duration(result['train_seconds'])} on {machine_phrase(subject)}"),
        ("Parameters", f"{result['params']:,}, {head_share(result)} of them in the head"),
        ("Forward pass", f"{result['flops_per_image'] / 1e6:,.1f} million operations an image"),
        ("Network", network_phrase(subject)),
        ("Data", f"{subject.dataset.card.title}: {counted(result['train_images'], 'training image')}"),
    ]
    comparisons = [*warnings(subject), *preset_sentences(subject)]
    comparisons += [beside_sentence(subject, other) for other in others]
    return Answer(percent(accuracy), sentence, facts, comparisons)


def headline(subject: Subject) -> tuple[float, Sequence[float]]:
    """Accuracy and its interval: on the test images that of result.json, else that found here."""
    result = subject.result
    if subject.part == "test" and result["test_top1"] is not None:
        return result["test_top1"], result["test_top1_interval"]
    return subject.accuracy, wilson_interval(subject.accuracy, len(subject.images))


def head_share(result: Result) -> str:
    """Of the parameters."""
    return percent(result["params_by_part"].get("head", 0) / result["params"], 0)


def machine_phrase(subject: Subject) -> str:
    """2 threads of an AMD EPYC, bf16."""
    environment = subject.environment
    where = environment["device_name"] or environment["device"]
    threads = f"{counted(environment['threads'], 'thread')} of " if environment["device"] == "cpu" else ""
    return f"{threads}{where}, {environment['precision']}"


def network_phrase(subject: Subject) -> str:
    """The network in one line."""
    config = subject.config.model
    if config.arch == "cnn":
        return f"CNN, {listed([str(n) for n in config.cnn_channels])} channels"
    attention = "no attention" if config.attn_form == "none" else counted(config.num_heads, "head")
    return (
        f"ViT, {config.grid} x {config.grid} patches of {config.patch_size} x {config.patch_size} pixels, "
        f"{counted(config.depth, 'block')}, width {config.embed_dim}, {attention}"
    )


def warnings(subject: Subject) -> list[str]:
    """What has to be known before the number is believed."""
    said, result = [], subject.result
    if result["status"] == "diverged":
        kept = f"These are the weights of epoch {result['selected_epoch']}."
        said.append(f"The run diverged: its loss stopped being a number. {kept}")
    if subject.part != "test":
        other = "were learned from" if subject.part == "training" else "may have chosen the epoch"
        said.append(f"The data set has no test images; these {other}, so that the number flatters.")
    elif result["test_top1"] is not None and abs(result["test_top1"] - subject.accuracy) > 1e-9:
        said.append(
            f"The pictures below were computed on this machine, where {percent(subject.accuracy)} are recognised: "
            "numbers are rounded differently here."
        )
    return said


def preset_sentences(subject: Subject) -> list[str]:
    """What the preset promises, and what has been published for it."""
    config = subject.config
    preset = PRESETS.get(config.preset or "")
    if preset is None:
        return []
    changed = changed_knobs(config, preset.config)
    if changed:
        return [f"It is {preset_phrase(config)}."]
    said = [f"The preset {config.preset} leads one to expect: {preset.expected.replace('+-', '±')}"]
    if preset.published and subject.part == "test":
        accuracy, seconds = preset.published
        own, (low, high) = headline(subject)
        inside = "inside" if 100 * low <= accuracy <= 100 * high else "outside"
        said.append(
            f"Against that page this run is at {100 * own - accuracy:+.2f} points in "
            f"{percent(subject.result['train_seconds'] / seconds, 0)} of the time; the published accuracy lies "
            f"{inside} this run's interval."
        )
    return said


def preset_phrase(config: RunConfig) -> str:
    """The preset, and what was changed of it."""
    if config.preset not in PRESETS:
        return "a configuration of its own"
    changed = changed_knobs(config, PRESETS[config.preset].config)
    knobs = [f"{name} {show(value)}" for name, value in changed.items()]
    return f"the preset {config.preset}" + (f" with {listed(knobs)}" if knobs else "")


def changed_knobs(config: RunConfig, preset: RunConfig) -> dict[str, Any]:
    """Knobs that differ from a preset's, apart from the seed and the machine."""
    own, theirs = sections(config), sections(preset)
    return {
        name: getattr(own[section], name)
        for name, (section, _) in flat_fields(RunConfig).items()
        if section != "machine" and name not in ("seed", "eval_batch_size", "checkpoint_seconds")
        and getattr(own[section], name) != getattr(theirs[section], name)
    }  # fmt: skip


def show(value: Any) -> str:
    """A knob's value for people."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def beside_sentence(subject: Subject, other: Subject) -> str:
    """Two runs on the same images: accuracy, time, and on how many images only one of them is right."""
    labels = subject.images.labels
    own, theirs = subject.guesses == labels, other.guesses == labels
    alone, other_alone = int((own & ~theirs).sum()), int((~own & theirs).sum())
    chance = sign_test(alone, other_alone)
    verdict = "that could be chance" if chance > 0.05 else "that is hardly chance"
    ratio = other.result["train_seconds"] / max(subject.result["train_seconds"], 1e-9)
    speed = f"was {ratio:.1f} times as fast" if ratio >= 1 else f"took {1 / ratio:.1f} times as long"
    return (
        f"{other.name} beside it, {preset_phrase(other.config)}: {percent(headline(other)[0])} in "
        f"{duration(other.result['train_seconds'])} with {other.result['params']:,} parameters. "
        f"{subject.name} {speed}. On {counted(alone, 'image')} only {subject.name} is right, on {other_alone:,} "
        f"only {other.name}: {verdict} (exact sign test, p = {chance:.2g})."
    )


def sign_test(wins: int, losses: int) -> float:
    """How often a fair coin splits at least as unevenly (two-sided): McNemar's exact test of two networks on the same
    images; 1 without any difference."""
    from scipy import stats

    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
