"""vitlab export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.errors import ConfigError
from vitlab.text import counted, quoted, show

if TYPE_CHECKING:
    from vitlab.predict import Classifier

ENDINGS = {
    "onnx": ".onnx",
    "torch": ".pt2",
    "web": "-web",
    "transformers": "-transformers",
    "timm": "-timm",
}

LOADING = {
    "transformers": "AutoModelForImageClassification.from_pretrained({!r}); README.md there shows more",
    "timm": 'timm.create_model("local-dir:{}", pretrained=True); README.md there shows more',
}


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage, help = (
        "RUN [RUN ...] --to onnx|torch|web|transformers|timm [options]",
        "export a network for ONNX, torch, the web, transformers or timm",
    )
    parser = flags.add_command(children, export, help, usage)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=flags.run, help=f"{flags.A_RUN}; several for web")
    add("--to", choices=tuple(ENDINGS), required=True, help="the format to write")
    add("--out", metavar="PATH", type=flags.path, help="file or folder to write [RUN.onnx, RUN.pt2, RUN-web ...]")
    add("--attention", action="store_true", help="onnx: also output each block's attention weights")
    add("--study", metavar="DIR", type=flags.path, help="web: add a study's table and its models")
    add("--no-lesson", action="store_true", help="web: leave out the images that the page can train a network on")
    flags.add_runs(parser, dest="by")
    flags.add_output(parser)


def export(arguments: argparse.Namespace) -> int:
    """Write a trained network for use elsewhere. onnx, torch: one file that maps images, as they are in the data
    set, to logits; preprocessing is inside, and the logits are compared with torch's before the file is kept. web: a
    folder for any static host, with a page that classifies drawings. transformers, timm: a folder that these libraries
    load, for a Vision Transformer that they can express, such as the preset textbook."""
    check_options(arguments)
    from vitlab.predict import Classifier

    classifiers = [Classifier.load(run) for run in arguments.runs]
    out = arguments.out or Path(classifiers[0].name + ENDINGS[arguments.to])
    facts = export_to(arguments, classifiers, out)
    if arguments.json:
        flags.print_json(facts)
    else:
        show(*summary(facts))
    return 0


def check_options(arguments: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    to = arguments.to
    if to != "web" and len(arguments.runs) > 1:
        raise ConfigError(f"--to {to} takes one run, not {len(arguments.runs)}; only --to web takes several")
    own = {
        "attention": ("onnx", arguments.attention),
        "study": ("web", arguments.study),
        "no-lesson": ("web", arguments.no_lesson),
        "runs": ("web", arguments.by),
    }
    for name, (form, given) in own.items():
        if given and to != form:
            raise ConfigError(f"--{name} works only with --to {form}, not with --to {to}; leave it out")


def export_to(arguments: argparse.Namespace, classifiers: list[Classifier], out: Path) -> dict[str, Any]:
    """Write ``out``; facts about it."""
    if arguments.to == "onnx":
        from vitlab.export.onnx import export_onnx

        return export_onnx(classifiers[0], out, arguments.attention)
    if arguments.to == "torch":
        from vitlab.export.program import export_program

        return export_program(classifiers[0], out)
    if arguments.to == "web":
        from vitlab.export.web import export_web

        notes = flags.notes(arguments.quiet)
        runs = arguments.by or flags.RUNS
        return export_web(classifiers, out, arguments.study, runs, notes, lesson=not arguments.no_lesson)
    if arguments.to in ("transformers", "timm"):
        from vitlab.export.hub import export_hub

        return export_hub(classifiers[0], out, arguments.to)
    raise AssertionError(f"nothing writes --to {arguments.to}")


def summary(facts: dict[str, Any]) -> tuple[str, ...]:
    """The result for people, in two or three lines."""
    path = Path(facts["path"])
    if facts["to"] == "web":
        size = f"{facts['bytes'] / 1e6:.1f} MB in {counted(facts['files'], 'file')}"
        serve = f"python -m http.server --bind 127.0.0.1 --directory {quoted(path)}"
        models = counted(facts["models"], "model")
        return f"{path}: the page with {models}, {size}", f"next: {serve}   and open http://127.0.0.1:8000"
    batches = ", ".join(f"{difference:.1e} (batch {batch})" for batch, difference in facts["max_difference"].items())
    if facts["to"] in LOADING:
        size = f"{facts['bytes'] / 1e6:.2f} MB in {counted(facts['files'], 'file')}"
        return (
            f"{path}: {size}; read by {facts['reader']}",
            f"largest difference from torch: {batches}",
            f"next: {LOADING[facts['to']].format(str(path))}",
        )
    shapes = [f"{name} [{', '.join(map(str, sizes))}]" for name, sizes in facts["outputs"].items()]
    data = f"images {facts['type']} [{', '.join(map(str, facts['input']))}] -> {', '.join(shapes)}"
    return f"{path}: {facts['bytes'] / 1e6:.2f} MB, {data}", f"largest difference from torch: {batches}"
