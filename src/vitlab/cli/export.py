"""vitlab export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.cli.load import load_torch
from vitlab.errors import ConfigError
from vitlab.text import counted, quoted, show

if TYPE_CHECKING:
    from vitlab.predict import Classifier

ENDINGS = {
    "onnx": ".onnx",
    "torch": ".pt2",
    "c": "-c",
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
        "RUN [RUN ...] --to onnx|torch|c|web|transformers|timm [options]",
        "export a network for ONNX, torch, C, the web, transformers or timm",
    )
    parser = flags.add_command(children, export, help, usage)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=flags.run, help=f"{flags.A_RUN}; several for web")
    add("--to", choices=tuple(ENDINGS), required=True, help="the format to write")
    add("--out", metavar="PATH", type=flags.path, help="file or folder to write [RUN.onnx, RUN.pt2, RUN-web ...]")
    add("--attention", action="store_true", help="onnx: also output each block's attention weights")
    add("--int8", action="store_true", help="onnx, c: round the weights to int8, and measure what that costs")
    loss = "int8: refuse to lose more than this many points of accuracy [0.3]"
    add("--most-loss", metavar="POINTS", type=flags.number(0, 100), help=loss)
    add("--data", metavar="PLACE", help="int8: where the run's images are now, if they have moved")
    add("--study", metavar="DIR", type=flags.path, help="web: add a study's table and its models")
    own = "web: show images of your own data set too: to try, on a map, to train on [only those of public data sets]"
    add("--own-images", action="store_true", help=own)
    add("--no-lesson", action="store_true", help="web: leave out the images that the page can train a network on")
    shown = "web: a map of test images [only of data sets that anybody can download]"
    add("--map", action=argparse.BooleanOptionalAction, default=None, help=shown)
    add("--single-file", action="store_true", help="web: one HTML file, to open without a server or to send by mail")
    add("--address", metavar="URL", help="web: where the page will be, for the picture that links to it show")
    flags.add_runs(parser, dest="by")
    flags.add_output(parser)


def export(arguments: argparse.Namespace) -> int:
    """Write a trained network for use elsewhere. onnx, torch: one file that maps images, as they are in the data
    set, to logits; preprocessing is inside, and the logits are compared with torch's before the file is kept. c: a
    folder with a header, a C11 source file that does the same on any processor, and an example. web: a folder for any
    static host, with a page that classifies drawings. transformers, timm: a folder that these libraries load, for a
    Vision Transformer that they can express, such as the preset textbook."""
    check_options(arguments)
    load_torch()
    from vitlab.predict import Classifier

    classifiers = [Classifier.load(run) for run in arguments.runs]
    ending = ".html" if arguments.single_file else ENDINGS[arguments.to]
    out = arguments.out or Path(classifiers[0].name + ending)
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
        "attention": (("onnx",), arguments.attention),
        "int8": (("onnx", "c"), arguments.int8),
        "study": (("web",), arguments.study),
        "no-lesson": (("web",), arguments.no_lesson),
        "own-images": (("web",), arguments.own_images),
        "map": (("web",), arguments.map is not None),
        "single-file": (("web",), arguments.single_file),
        "address": (("web",), arguments.address),
        "runs": (("web",), arguments.by),
    }
    for name, (forms, given) in own.items():
        if given and to not in forms:
            raise ConfigError(f"--{name} works only with --to {' or '.join(forms)}, not with --to {to}; leave it out")
    for name, value in (("most-loss", arguments.most_loss), ("data", arguments.data)):
        if value is not None and not arguments.int8:
            raise ConfigError(f"--{name} works only with --int8; add it, or leave --{name} out")


def export_to(arguments: argparse.Namespace, classifiers: list[Classifier], out: Path) -> dict[str, Any]:
    """Write ``out``; facts about it."""
    int8 = None
    if arguments.int8:
        from vitlab.export.gate import MOST_LOSS, gate_of

        most = MOST_LOSS if arguments.most_loss is None else arguments.most_loss
        int8 = gate_of(classifiers[0], arguments.data, most, flags.notes(True))
    if arguments.to == "onnx":
        from vitlab.export.onnx import export_onnx

        return export_onnx(classifiers[0], out, arguments.attention, int8)
    if arguments.to == "c":
        from vitlab.export.c import export_c

        return export_c(classifiers[0], out, int8)
    if arguments.to == "torch":
        from vitlab.export.program import export_program

        return export_program(classifiers[0], out)
    if arguments.to == "web":
        from vitlab.export.web import export_web

        notes, runs = flags.notes(arguments.quiet), arguments.by or flags.RUNS
        wanted = {"lesson": not arguments.no_lesson, "with_map": arguments.map, "own_images": arguments.own_images}
        wanted |= {"single": arguments.single_file, "address": arguments.address}
        return export_web(classifiers, out, arguments.study, runs, notes, **wanted)
    if arguments.to in ("transformers", "timm"):
        from vitlab.export.hub import export_hub

        return export_hub(classifiers[0], out, arguments.to)
    raise AssertionError(f"nothing writes --to {arguments.to}")


def summary(facts: dict[str, Any]) -> tuple[str, ...]:
    """The result for people, in two or three lines."""
    path = Path(facts["path"])
    if facts["to"] == "web":
        size = f"{facts['bytes'] / 1e6:.1f} MB in {counted(facts['files'], 'file')}"
        models = counted(facts["models"], "model")
        if facts["files"] == 1:
            return f"{path}: the page with {models}, {size}", "next: open it in a browser, or send it to somebody"
        serve = f"python -m http.server --bind 127.0.0.1 --directory {quoted(path)}"
        return f"{path}: the page with {models}, {size}", f"next: {serve}   and open http://127.0.0.1:8000"
    cost = (int8_line(facts["int8"]),) if "int8" in facts else ()
    if facts["to"] == "c":
        return c_summary(facts, cost)
    differences = facts.get("max_difference") or {}
    batches = ", ".join(f"{difference:.1e} (batch {batch})" for batch, difference in differences.items())
    if facts["to"] in LOADING:
        size = f"{facts['bytes'] / 1e6:.2f} MB in {counted(facts['files'], 'file')}"
        return (
            f"{path}: {size}; read by {facts['reader']}",
            f"largest difference from torch: {batches}",
            f"next: {LOADING[facts['to']].format(str(path))}",
        )
    shapes = [f"{name} [{', '.join(map(str, sizes))}]" for name, sizes in facts["outputs"].items()]
    data = f"images {facts['type']} [{', '.join(map(str, facts['input']))}] -> {', '.join(shapes)}"
    first = f"{path}: {facts['bytes'] / 1e6:.2f} MB, {data}"
    return (first, *cost) if cost else (first, f"largest difference from torch: {batches}")


def int8_line(cost: dict[str, Any]) -> str:
    """What rounding to int8 costs."""
    top1, rounded = 100 * cost["top1"], 100 * cost["top1_int8"]
    images = counted(cost["images"], f"{cost['part']} image")
    same = 100 * cost["same_answers"]
    return f"int8: top-1 {rounded:.2f} % instead of {top1:.2f} % on {images}; {same:.2f} % of the answers are the same"


def c_summary(facts: dict[str, Any], cost: tuple[str, ...]) -> tuple[str, ...]:
    """The result of --to c for people."""
    path, found = Path(facts["path"]), facts["max_difference"]
    weights, memory = (f"{facts[name] / 1000:.1f} kB" for name in ("weight_bytes", "memory_bytes"))
    sizes = f"{weights} of weights ({facts['weights']}), {memory} of working memory"
    checked = (
        "no C compiler is installed, so the code was not compiled and compared with torch"
        if found is None
        else f"compiled; largest difference from torch{' with these weights' * bool(cost)}: {max(found.values()):.1e}"
    )
    return f"{path}: C11 for any processor, {sizes}", *cost, checked, f"next: read {quoted(path / 'README.md')}"
