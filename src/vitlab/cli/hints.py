"""What people type who know other programs, and what vitlab calls it: commands, options, words in the wrong place.

The names of knobs and their values are in config/hints.py, because Python needs them too.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence

from vitlab.config.hints import knob_hint, plain
from vitlab.config.presets import PRESETS

# Another word for a command -> the command lines that do it.
COMMANDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("fit", "run", "learn", "start", "begin"), ("vitlab train",)),
    **dict.fromkeys(("resume", "continue"), ("vitlab train --resume RUN",)),
    **dict.fromkeys(("test", "eval", "score", "validate", "accuracy", "benchmark"), ("vitlab evaluate RUN",)),
    **dict.fromkeys(("infer", "inference", "classify", "apply"), ("vitlab predict RUN IMAGE",)),
    **dict.fromkeys(("plot", "report", "visualize", "visualise", "view", "draw"), ("vitlab look RUN",)),
    **dict.fromkeys(("attention", "explain"), ("vitlab look RUN", "vitlab serve RUN")),
    **dict.fromkeys(("info", "summary", "status", "history", "inspect", "log", "cat"), ("vitlab show RUN",)),
    **dict.fromkeys(("list", "ls", "experiments", "results"), ("vitlab runs", "vitlab presets", "vitlab data list")),
    **dict.fromkeys(("rm", "delete", "remove", "clean"), ("vitlab runs delete RUN",)),
    **dict.fromkeys(("tune", "search", "sweep", "grid", "optimize", "hpo"), ("vitlab study --vary KNOB=VALUE,VALUE",)),
    **dict.fromkeys(("diff", "versus", "vs"), ("vitlab compare PRESET PRESET", "vitlab look RUN --beside RUN")),
    **dict.fromkeys(("web", "page", "ui", "app", "gui", "server", "play"), ("vitlab demo", "vitlab serve RUN")),
    **dict.fromkeys(("huggingface", "transformers", "timm"), ("vitlab export RUN --to transformers",)),
    **dict.fromkeys(("convert", "save", "onnx", "deploy"), ("vitlab export RUN --to onnx",)),
    **dict.fromkeys(("download", "fetch", "dataset", "datasets"), ("vitlab data fetch NAME", "vitlab data list")),
    **dict.fromkeys(("preset", "configs"), ("vitlab presets",)),
    **dict.fromkeys(("models", "networks", "pretrained"), ("vitlab zoo", "vitlab presets")),
    **dict.fromkeys(("verify", "validate-run", "fsck"), ("vitlab check PATH",)),
    **dict.fromkeys(("env", "gpu", "device", "devices", "system"), ("vitlab doctor",)),
    "version": ("vitlab --version",),
}
# Another word for an option that is no knob -> the option.
OPTIONS = {
    **dict.fromkeys(("output", "output_dir", "save_dir", "log_dir", "o", "name", "save"), "--out DIR"),
    **dict.fromkeys(("checkpoint", "ckpt", "continue", "resume_from_checkpoint"), "--resume RUN"),
    **dict.fromkeys(("model", "m", "model_name"), "--preset NAME, or --arch"),
    **dict.fromkeys(("e", "n"), "--epochs"),
    **dict.fromkeys(("b",), "--batch-size"),
    **dict.fromkeys(("d",), "--data"),
    **dict.fromkeys(("s",), "--seed"),
    **dict.fromkeys(("q", "silent", "no_progress"), "--quiet"),
    **dict.fromkeys(("grid", "sweep", "param", "params"), "--vary KNOB=VALUE,VALUE"),
    **dict.fromkeys(("trials", "n_trials"), "--search N"),
    **dict.fromkeys(("repeats", "n_seeds", "num_seeds"), "--seeds N"),
    **dict.fromkeys(("format", "target"), "--to FORMAT"),
    **dict.fromkeys(("tta",), "--shifts N or --flips"),
    **dict.fromkeys(("k", "topk", "top_k"), "--top N"),
    **dict.fromkeys(("compare", "with", "versus", "vs"), "--beside RUN"),
}
VERBOSE = ("verbose", "v", "progress")


def command_hint(word: str, known: Iterable[str]) -> str:
    """What to type in place of the unknown command ``word``; empty if nothing is close."""
    meant = COMMANDS.get(word.lower(), ())
    if not meant:
        meant = tuple(f"vitlab {name}" for name in difflib.get_close_matches(word.lower(), list(known), n=1))
    if not meant:
        return ""
    return f" (did you mean {' or '.join(f'`{line}`' for line in meant)}?)"


def option_hint(word: str, known: Sequence[str]) -> str:
    """What to type in place of the option ``word``, which is none of ``known``; empty if nothing is close."""
    name, flags = plain(word), [flag for flag in known if flag.startswith("--")]
    meant = OPTIONS.get(name, "")
    if meant and meant.split()[0].rstrip(",") in flags:
        return f" (use {meant})"
    if name in VERBOSE:
        return " (progress is shown unless you add --quiet)"
    hint = knob_hint(name, map(plain, flags))
    if hint.startswith((" (use ", " (did you mean ")):
        head, _, last = hint.rpartition(" ")
        knob, _, value = last.rstrip("?)").partition("=")
        flag = next(flag for flag in flags if plain(flag) == knob)
        return f"{head} {flag}{f' {value}' if value else ''}{'?)' if '?' in last else ')'}"
    return hint if any(flag == "--lr" for flag in flags) else ""


def word_hint(word: str, known: Sequence[str]) -> str:
    """What to type in place of ``word``, which stands where no word is expected; empty if nothing is close."""
    name, equals, text = word.partition("=")
    if equals and "--vary" in known and plain(name) in {plain(flag) for flag in known}:
        return f" (did you forget --vary? `--vary {word}`)"
    if equals:
        flag = f"--{name.replace('_', '-')}"
        return f" (use {flag} {text})" if flag in known else option_hint(flag, known)
    if "--preset" in known and word in PRESETS:
        return f" (use --preset {word})"
    if "--data" in known and is_data(word):
        return f" (use --data {word})"
    if "--lr" in known and is_number(word):
        return " (an option takes one value; `vitlab study --vary KNOB=VALUE,VALUE` compares several)"
    return ""


def is_number(word: str) -> bool:
    """Whether ``word`` is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def is_data(word: str) -> bool:
    """Whether ``word`` is a data set's name, a folder or a file with a data set."""
    from vitlab.data import CATALOGUE

    return word in CATALOGUE or word.endswith((".npz", ".csv")) or os.path.isdir(word)
