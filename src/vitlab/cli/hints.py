"""What people type who know other programs, and what vitlab calls it: commands, options, words in the wrong place.

The names of knobs and their values are in config/hints.py, because Python needs them too.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitlab.config.hints import did_you_mean, knob_hint, plain
from vitlab.config.presets import PRESETS
from vitlab.runs.zoo import is_own
from vitlab.text import quoted

# Another word for a command -> the command lines that do it.
COMMANDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("fit", "run", "learn", "start", "begin", "init"), ("vitlab train",)),
    **dict.fromkeys(("resume", "continue"), ("vitlab train --resume RUN",)),
    **dict.fromkeys(("test", "eval", "score", "validate", "accuracy", "benchmark"), ("vitlab evaluate RUN",)),
    "val": ("vitlab evaluate RUN --split val",),
    "config": ("vitlab train --print-config",),
    **dict.fromkeys(("infer", "inference", "classify", "apply"), ("vitlab predict RUN IMAGE",)),
    **dict.fromkeys(("plot", "report", "visualize", "visualise", "view"), ("vitlab look RUN",)),
    **dict.fromkeys(("attention", "explain"), ("vitlab look RUN", "vitlab serve RUN")),
    **dict.fromkeys(("info", "summary", "status", "history", "inspect", "log", "cat"), ("vitlab show RUN",)),
    **dict.fromkeys(("list", "ls", "experiments", "results"), ("vitlab runs", "vitlab presets", "vitlab data list")),
    **dict.fromkeys(("rm", "delete", "remove", "clean"), ("vitlab runs delete RUN",)),
    **dict.fromkeys(("tune", "search", "sweep", "grid", "optimize", "hpo"), ("vitlab study --vary KNOB=VALUE,VALUE",)),
    **dict.fromkeys(("diff", "versus", "vs"), ("vitlab compare PRESET PRESET", "vitlab look RUN --beside RUN")),
    **dict.fromkeys(("web", "page", "ui", "app", "gui", "server", "play", "draw"), ("vitlab demo", "vitlab serve RUN")),
    **dict.fromkeys(("huggingface", "transformers", "timm"), ("vitlab export RUN --to transformers",)),
    **dict.fromkeys(("convert", "save", "onnx", "deploy"), ("vitlab export RUN --to onnx",)),
    **dict.fromkeys(("download", "fetch", "dataset", "datasets"), ("vitlab data fetch NAME", "vitlab data list")),
    **dict.fromkeys(("preset", "configs"), ("vitlab presets",)),
    **dict.fromkeys(("models", "networks", "pretrained"), ("vitlab zoo", "vitlab presets")),
    **dict.fromkeys(("verify", "validate-run", "fsck"), ("vitlab check PATH",)),
    **dict.fromkeys(("env", "gpu", "device", "devices", "system"), ("vitlab doctor",)),
    "version": ("vitlab --version",),
}
# Another word for an option that is no knob -> options, or RUN; the first that the command has is meant.
OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("output", "output_dir", "o"), ("--out DIR", "--csv FILE")),
    **dict.fromkeys(("save_dir", "log_dir", "name", "save", "project"), ("--out DIR",)),
    **dict.fromkeys(("checkpoint", "ckpt", "continue", "resume_from_checkpoint"), ("--resume RUN", "RUN")),
    **dict.fromkeys(("model", "m", "model_name"), ("--preset NAME, or --arch", "RUN")),
    **dict.fromkeys(("run", "weights"), ("--resume RUN", "RUN")),
    **dict.fromkeys(("e", "n"), ("--epochs",)),
    **dict.fromkeys(("b",), ("--batch-size",)),
    **dict.fromkeys(("batch_size", "bs"), ("--batch-size", "--eval-batch-size")),
    **dict.fromkeys(("d",), ("--data",)),
    **dict.fromkeys(("s",), ("--seed",)),
    **dict.fromkeys(("q", "silent", "no_progress"), ("--quiet",)),
    **dict.fromkeys(("grid", "sweep", "param", "params"), ("--vary KNOB=VALUE,VALUE",)),
    **dict.fromkeys(("trials", "n_trials"), ("--search N",)),
    **dict.fromkeys(("repeats", "n_seeds", "num_seeds"), ("--seeds N",)),
    **dict.fromkeys(("format", "target"), ("--to FORMAT",)),
    **dict.fromkeys(("tta",), ("--shifts N or --flips",)),
    **dict.fromkeys(("k", "topk", "top_k"), ("--top N",)),
    **dict.fromkeys(("compare", "with", "versus", "vs"), ("--beside RUN",)),
    **dict.fromkeys(("dry_run", "dryrun", "show_config"), ("--print-config",)),
    **dict.fromkeys(("test_data", "test_dir", "testset"), ("--on DATA",)),
}
OVERWRITE = ("force", "overwrite", "exist_ok", "f")
# The value of an option, or the action of a command, in other words -> ours.
CHOICES = {
    "--split": {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"},
    "--to": {
        **dict.fromkeys(("keras", "tensorflow", "tf", "tflite", "savedmodel", "tensorrt"), "onnx"),
        **dict.fromkeys(("pytorch", "torchscript", "pt", "pt2"), "torch"),
        **dict.fromkeys(("html", "page", "js"), "web"),
        **dict.fromkeys(("huggingface", "hf", "hub"), "transformers"),
        **dict.fromkeys(("c++", "cpp", "arduino", "microcontroller"), "c"),
    },
    "vitlab data": {
        **dict.fromkeys(("download", "get", "pull", "install"), "fetch"),
        **dict.fromkeys(("show", "info", "inspect", "stats", "summary"), "describe"),
        **dict.fromkeys(("verify", "validate"), "check"),
        **dict.fromkeys(("remove", "rm", "delete", "clear"), "clean"),
        "ls": "list",
    },
    "vitlab runs": {
        **dict.fromkeys(("remove", "rm", "del", "clean"), "delete"),
        **dict.fromkeys(("ls", "show"), "list"),
    },
}
# What an option without its value needs, by the option or by what its value is called in the help.
EXAMPLES = {
    **{"--preset": "small", "--epochs": "3", "--data": "digits", "--vary": "patch_size=4,7", "--on": "digits"},
    **{"--lr": "1e-3", "--init-from": "mnist", "--csv": "answers.csv", "--config": "config.json", "--slurm": "time=60"},
    **{"N": "3", "X": "0.1", "DIR": "runs/first", "RUN": "runs/first", "FILE": "file.txt"},
}
ONE_RUN = ("vitlab evaluate", "vitlab look", "vitlab show")
# Options whose value is a path, which may hold spaces.
OF_PATHS = ("--out", "--data", "--resume", "--config", "--runs", "--csv", "--beside", "--init-from", "--on", "--study")
LONG_DASHES = "\u2013\u2014"  # as some programs write --
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
    """What to type in place of the option ``word``, which is none of ``known`` (options, and RUN if the command takes
    one); empty if nothing is close."""
    name, flags = plain(word), [flag for flag in known if flag.startswith("--")]
    meant = next((one for one in OPTIONS.get(name, ()) if one.split()[0].rstrip(",") in known), "")
    if meant:
        return " (RUN is named without an option)" if meant == "RUN" else f" (use {meant})"
    if name in VERBOSE:
        return " (progress is shown unless you add --quiet)" if "--quiet" in flags else ""
    if name in OVERWRITE and "--out" in flags:
        return " (vitlab never overwrites: choose another --out, or `vitlab runs delete RUN`)"
    hint = knob_hint(name, map(plain, flags))
    if hint.startswith((" (use ", " (did you mean ")):
        head, _, last = hint.rpartition(" ")
        knob, _, value = last.rstrip("?)").partition("=")
        flag = next(flag for flag in flags if plain(flag) == knob)
        return f"{head} {flag}{f' {value}' if value else ''}{'?)' if '?' in last else ')'}"
    return hint if any(flag == "--lr" for flag in flags) else ""


def word_hint(word: str, known: Sequence[str], program: str = "", words: Sequence[str] = ()) -> str:
    """What to type in place of ``word``, which stands where no word is expected in the ``words`` after `vitlab`; empty
    if nothing is close."""
    name, equals, text = word.partition("=")
    if equals and "--vary" in known and plain(name) in {plain(flag) for flag in known}:
        return f" (did you forget --vary? `--vary {word}`)"
    if equals:
        flag = f"--{name.replace('_', '-')}"
        return f" (use {flag} {text})" if flag in known else option_hint(flag, known)
    if program == "vitlab zoo":
        return f" (use `vitlab {'zoo' if word == 'list' else f'show {quoted(word)}'}`)"
    runs = [one for one in words[1:] if not one.startswith("-")]
    if program in ONE_RUN and runs and runs[0] != word:
        return f" (one run at a time; to compare: `vitlab look {quoted(runs[0])} --beside {quoted(word)}`)"
    if "--preset" in known and word in PRESETS:
        return f" (use --preset {word})"
    if "--data" in known and is_data(word):
        first = words[words.index("--data") + 1] if "--data" in words else ""
        if not first:
            return f" (use --data {word})"
        if is_data(first):
            return f" (one data set; `vitlab study --vary data={first},{word}` compares several)"
    if "--resume" in known and is_own(Path(word)) and "--out" not in words:
        return f" (use --resume {quoted(word)} to continue it, or --init-from {quoted(word)})"
    if split := split_path(word, words):
        return f" (quote a path with spaces: {split})"
    if "--lr" in known and is_number(word):
        return " (an option takes one value; `vitlab study --vary KNOB=VALUE,VALUE` compares several)"
    return ""


def split_path(word: str, words: Sequence[str]) -> str:
    """An option with its path, of which ``word`` is the second half: --out 'my runs/first'; empty if it is none."""
    place = words.index(word) if word in words else 0
    option, start = words[max(0, place - 2) : place][:2] if place > 2 else ("", "")
    is_path = option in OF_PATHS and not start.startswith("-")
    return f"{option} {quoted(f'{start} {word}')}" if is_path else ""


def choice_error(program: str, option: str, word: str, known: Sequence[str]) -> str:
    """The message about ``word``, which is none of the values ``known`` of an option, or of the actions of a command if
    that is empty."""
    meant = CHOICES.get(option or program, {}).get(word.lower(), "")
    if option:
        hint = f" (use {meant})" if meant else did_you_mean(word, known)
        return f"{option} must be one of {', '.join(known)}, not {word!r}{hint}"
    if not meant and os.path.exists(word):
        meant = f"{'describe' if program == 'vitlab data' else known[0]} {quoted(word)}"
    close = meant or next(iter(difflib.get_close_matches(word.lower(), known, n=1)), "")
    hint = f" (did you mean `{program} {close}`?)" if close else ""
    return f"there is no `{program} {word}`{hint}; choose one of {', '.join(known)}"


def missing_value(option: str, metavar: str) -> str:
    """The message about an option without its value."""
    example = EXAMPLES.get(option) or EXAMPLES.get(metavar) or metavar.strip("{}").split(",")[0]
    return f"{option} needs a value, as in {option} {example}"


def long_dash(words: Iterable[str]) -> str:
    """The message about a word that begins with a long dash, as some programs write --; empty without one."""
    word = next((word for word in words if word[:1] in tuple(LONG_DASHES) and not os.path.exists(word)), "")
    return word and f"{word!r} begins with a long dash; use two short ones: --{word.lstrip(LONG_DASHES + '-')}"


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

    is_folder = os.path.isdir(word) and not is_own(Path(word))
    return word in CATALOGUE or word.endswith((".npz", ".csv")) or is_folder
