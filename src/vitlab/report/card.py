"""The model card of a run: README.md in the usual sections (Mitchell et al. 2019, "Model Cards for Model Reporting"),
filled from what the run knows about itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vitlab.data import CATALOGUE
from vitlab.predict import drawing as drawings
from vitlab.predict.classifier import DRAWN
from vitlab.report.answer import answer, headline, machine_phrase, network_phrase
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, between, counted, duration, markdown, percent

# As long as this line stands in README.md it is ours to write anew.
MARK = "<!-- Made by `vitlab look`, and made anew each time; delete this line to keep your own changes. -->"
SHOWN = ("confusion", "attention", "deletion", "robustness")


def card(subject: Subject, sections: Sequence[Section]) -> str:
    """The whole file; ``sections`` give the sentences about its limits, and pictures/ their pictures."""
    drawn = {part.name: part for section in sections for part in section.parts if isinstance(part, Picture)}
    parts = [
        yaml_head(subject),
        MARK,
        f"# {markdown(subject.name)}",
        f"A small {'Vision Transformer' if subject.is_vit else 'convolutional network'} that tells "
        f"{classes_phrase(subject)} apart. {answer_line(subject)}",
        *details(subject),
        *uses(subject),
        *limits(subject, drawn),
        *training_data(subject),
        *evaluation(subject, drawn, sections),
        *environment(subject),
        *specification(subject),
        *start(subject),
    ]
    return "\n\n".join(parts) + "\n"


def yaml_head(subject: Subject) -> str:
    """What programs read; JSON strings are YAML."""
    accuracy, _ = headline(subject)
    data = json.dumps(subject.dataset.card.name)
    return "\n".join([
        "---",
        "library_name: vitlab",
        "pipeline_tag: image-classification",
        f"tags: [image-classification, {'vision-transformer' if subject.is_vit else 'cnn'}, vitlab]",
        f"datasets: [{data}]",
        "metrics: [accuracy]",
        "model-index:",
        f"  - name: {json.dumps(subject.name)}",
        "    results:",
        "      - task: {type: image-classification}",
        f"        dataset: {{name: {data}, type: {data}, split: {subject.part}}}",
        f"        metrics: [{{type: accuracy, value: {accuracy:.6g}}}]",
        "---",
    ])  # fmt: skip


def classes_phrase(subject: Subject) -> str:
    """How many classes, and which if they are few."""
    names = subject.classes
    return (
        f"{counted(len(names), 'class')} ({markdown(', '.join(names))})"
        if len(names) <= 20
        else counted(len(names), "class")
    )


def answer_line(subject: Subject) -> str:
    """The headline in one sentence."""
    accuracy, interval = headline(subject)
    return (
        f"It recognises {percent(accuracy)} of {counted(len(subject.images), f'{subject.part} image')} (95 % interval "
        f"{between(interval)}) after {duration(subject.result['train_seconds'])} of training."
    )


def details(subject: Subject) -> list[str]:
    """What it is."""
    result = subject.result
    lines = [
        f"- Network: {network_phrase(subject)}; {result['params']:,} parameters",
        f"- Made with vitlab {subject.environment['vitlab']}, preset {subject.config.preset or 'none'}, "
        f"seed {result['seed']}",
        f"- Begun: {subject.environment['started_utc']}",
        f"- Weights: `model.safetensors`, SHA-256 `{result['model_sha256']}`",
        "- Licence: vitlab is under the MIT licence; the weights belong to whoever trained them, see also the data's",
    ]
    return ["## Details", "\n".join(lines)]


def uses(subject: Subject) -> list[str]:
    """What it is for, and what not."""
    images = f"{subject.dataset.card.height} x {subject.dataset.card.width} pixels"
    return [
        "## Uses",
        f"For learning and experiments: images like those of {markdown(subject.dataset.card.title)} ({images}), one "
        "object each. Not for decisions about people, money or safety: nobody has tested it for those.",
    ]


def limits(subject: Subject, drawn: dict[str, Picture]) -> list[str]:
    """Where it fails, in numbers."""
    said = [
        "- It always names one of its classes, whatever the image shows.",
        *(
            f"- {answered}"
            for answered in answer(subject, ()).comparisons
            if "diverged" in answered or "flatters" in answered
        ),
        *(
            f"- {markdown(drawn[name].fact or drawn[name].text)}"
            for name in ("classes", "reliability", "robustness")
            if name in drawn
        ),
    ]
    return ["## Limits", "\n".join(said)]


def training_data(subject: Subject) -> list[str]:
    """Which images, and what was done to them."""
    about, result = subject.dataset.card, subject.result
    known = None if about.layout in ("folder", "npz") else CATALOGUE.get(about.name)  # a folder may be called mnist
    source = f"Licence: {known.licence}; source: {known.source}." if known else "Own images."
    sizes = f"{counted(result['train_images'], 'training image')}, {result['val_images']:,} for validation"
    prepared = ", ".join(preparation(subject))
    return [
        "## Training data",
        f"{markdown(about.title)}: {sizes}. {source} SHA-256 of the bytes: `{result['data_sha256']}`.",
        f"Every image, in training and afterwards: {prepared}.",
    ]


def preparation(subject: Subject) -> list[str]:
    """The steps from a stored image to the network's input."""
    preprocess, steps = subject.preprocess, []
    steps.append("pixels to 0..1")
    if (subject.dataset.card.height, subject.dataset.card.width) != (preprocess.image_size, preprocess.image_size):
        steps.append(f"resized to {preprocess.image_size} x {preprocess.image_size} (bilinear)")
    if preprocess.crop is not None and preprocess.crop < preprocess.image_size:
        steps.append(f"the centre {preprocess.crop} x {preprocess.crop} kept")
    mean, std = (", ".join(f"{value:.5g}" for value in values) for values in (preprocess.mean, preprocess.std))
    steps.append(f"minus {mean}, divided by {std}")
    return steps


def evaluation(subject: Subject, drawn: dict[str, Picture], sections: Sequence[Section]) -> list[str]:
    """The numbers, with pictures."""
    result = subject.result
    rows = [("top-1 accuracy", f"{percent(headline(subject)[0])} ({between(headline(subject)[1])} with 95 %)")]
    if result["test_top5"] is not None:
        rows.append(("top-5 accuracy", percent(result["test_top5"])))
    if result["test_loss"] is not None:
        rows.append(("loss (cross-entropy, nats)", f"{result['test_loss']:.4f}"))
    if result["val_top1"] is not None:
        rows.append(("validation accuracy of these weights", percent(result["val_top1"])))
    head = f"| on {counted(len(subject.images), f'{subject.part} image')} | |\n| --- | --- |\n"
    table = head + "\n".join(f"| {name} | {text} |" for name, text in rows)
    pictures = [
        f"![{markdown(drawn[name].alt)}](pictures/{name}.png)\n\n{markdown(drawn[name].text)}"
        for name in SHOWN
        if name in drawn
    ]
    left_out = [part for section in sections for part in section.parts if isinstance(part, Missing)]
    notes = [f"Not drawn: {part.title.lower()}; {markdown(part.reason)}." for part in left_out]
    return ["## Evaluation", table, *pictures, *notes, "All pictures: [report.html](report.html)."]


def environment(subject: Subject) -> list[str]:
    """Where and how long it was trained."""
    about = subject.environment
    rate = subject.result["images_per_second"]
    speed = f" ({rate:,.0f} images a second)" if rate else ""
    return [
        "## Environment",
        f"Trained for {duration(subject.result['train_seconds'])}{speed} on {machine_phrase(subject)}; "
        f"{about['system']}, Python {about['python']}, torch {about['torch']}, "
        f"vitlab commit {about['git_commit'] or 'unknown'}.",
    ]


def specification(subject: Subject) -> list[str]:
    """Input, output, every knob."""
    config, channels = subject.config.model, subject.dataset.card.channels
    knobs = json.dumps(subject.config.to_dict()["model"], indent=2)
    shape = f"float32 [B, {channels}, {config.input_side}, {config.input_side}]"
    return [
        "## Specification",
        f"Input: {shape}, prepared as above. Output: logits float32 [B, {len(subject.classes)}]; their softmax are "
        "probabilities, in the order of the classes.",
        f"```json\n{knobs}\n```",
        "Every other knob: [config.json](config.json).",
    ]


def start(subject: Subject) -> list[str]:
    """How to use it."""
    code = (
        "from vitlab import Classifier\n\n"
        'classifier = Classifier.load(".")  # this folder\n'
        'print(classifier("picture.png"))  # PNG or JPEG; the likeliest classes, best first'
    )
    words = "On the command line: `vitlab predict . picture.png`."
    drawing = (
        f"Every picture first goes through the step `{drawings.NAME}`, as MNIST's digits were made: ink bright on "
        f"black, cut out, scaled so that its longest side is {drawings.LONGEST} pixels, contrast restored, its centre "
        f"of mass put where theirs is in {drawings.SIDE} x {drawings.SIDE} pixels. Whoever feeds the network otherwise "
        "must do the same: without it a digit of another size or place is read badly."
    )
    drawn = [drawing] if subject.dataset.card.name in DRAWN else []
    return ["## How to start", f"```python\n{code}\n```", words, *drawn]
