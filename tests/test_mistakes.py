"""What users do wrong: each mistake ends in one clear line and its exit code, and nothing half-written."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.command import Answer, finish, lay_out, snapshot, start, vitlab
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab import RunFolder
from vitlab.runs.session import Reporter, train_run

# ---------------------------------------------------------------- the stage: a folder with data and three runs


@pytest.fixture(scope="module")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and three runs of it: finished, unfinished (interrupted in epoch 2) and diverged."""
    folder = lay_out(tmp_path_factory.mktemp("scenery"))
    with contextlib.chdir(folder):
        assert vitlab("train --config tiny.json --out finished").code == 0
        assert vitlab("train --config tiny.json --out diverged --lr 1e30").code == 4
        interrupt = Reporter(step=lambda task, counters, loss: stop_at(8, counters.step))
        assert train_run(tiny_config("toy.npz", device="cpu"), Path("unfinished"), interrupt)["status"] == "interrupted"
    return folder


def stop_at(last: int, step: int) -> None:
    """Press Ctrl-C in step ``last``."""
    if step == last:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def stage(scenery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the scenery, which is the current folder."""
    shutil.copytree(scenery, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Props:
    """What a row may use to set the stage."""

    patch: pytest.MonkeyPatch
    stack: contextlib.ExitStack


Setting = Callable[[Props], object]


def text(path: str, content: str) -> Setting:
    """A file with ``content``."""

    def write(props: Props) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content)

    return write


def edit(path: str, old: str, new: str) -> Setting:
    """A file in which ``new`` stands for ``old``."""

    def change(props: Props) -> None:
        before = Path(path).read_text()
        assert old in before
        Path(path).write_text(before.replace(old, new))

    return change


def cut(path: str) -> Setting:
    """A file that lost its second half."""
    return lambda props: Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])


def flip(path: str) -> Setting:
    """A file with one bit flipped in its last bytes."""

    def change(props: Props) -> None:
        data = bytearray(Path(path).read_bytes())
        data[-5] ^= 1
        Path(path).write_bytes(data)

    return change


def gone(path: str) -> Setting:
    """A file that is no longer there."""
    return lambda props: Path(path).unlink()


def npz(**changes: Any) -> Setting:
    """bad.npz: a small data set with some arrays changed, or left out (None)."""

    def save(props: Props) -> None:
        split = glyphs(40)
        arrays: dict[str, Any] = {"x_train": split.images, "y_train": split.labels} | changes
        np.savez("bad.npz", **{name: array for name, array in arrays.items() if array is not None})

    return save


def patched(target: str, value: Any) -> Setting:
    """A function of vitlab or torch that does something else."""
    return lambda props: props.patch.setattr(target, value)


def locked(path: str) -> Setting:
    """A run folder that somebody else is writing."""
    return lambda props: props.stack.enter_context(FileLock(Path(path) / ".lock"))


def failing(error: Exception) -> Callable[..., Any]:
    """A function that raises ``error``."""

    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


# ------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True)
class Mistake:
    """A command, its exit code and what its message says; how the stage is set; which new files may be there after."""

    name: str
    line: str
    code: int
    says: tuple[str, ...]
    setting: Setting = lambda props: None
    leaves: tuple[str, ...] = ()
    status: str | None = None


TRAIN = "train --config tiny.json --out run "
BAD_DATA = TRAIN + "--data bad.npz"
RUN_FILES = ("run", "run/*.json", "run/history.jsonl", "run/checkpoints", "run/checkpoints/step-*.safetensors")
STUDY = text("dash/study.json", "{}")
IMAGES, LABELS = glyphs(40).images, glyphs(40).labels
NO_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17280000000000 bytes.")

MISTAKES = [
    # words of the command line
    Mistake("unknown command", "trian", 2, ("trian", "vitlab train", "--help")),
    Mistake("unknown option", TRAIN + "--epoch 3", 2, ("--epoch'", "did you mean --epochs", "--help")),
    Mistake("abbreviated option", TRAIN + "--epo 3", 2, ("--epo'", "--epochs")),
    Mistake("unknown option of another command", "presets --epochs 3", 2, ("--epochs", "vitlab presets --help")),
    Mistake("missing value", TRAIN + "--epochs", 2, ("--epochs needs a value, as in --epochs 3",)),
    Mistake("missing run", "evaluate", 2, ("RUN", "vitlab evaluate --help")),
    Mistake("unknown split", "evaluate finished --split tset", 2, ("tset", "test", "val")),
    Mistake("unknown preset", "train --preset smal", 2, ("'smal'", "did you mean small", "vitlab presets")),
    Mistake("unknown preset to show", "presets smal", 2, ("'smal'", "did you mean small")),
    Mistake("preset and config", TRAIN + "--preset small", 2, ("--preset", "--config")),
    Mistake("check of nothing", "data check", 2, ("vitlab data check", "vitlab data list")),
    Mistake("fetch of nothing", "data fetch", 2, ("vitlab data fetch", "vitlab data list")),
    Mistake("fetch of an unknown set", "data fetch mnst", 3, ("'mnst'", "did you mean mnist")),
    # config files
    Mistake("no config file", "train --config no.json", 2, ("no.json",)),
    Mistake("config without an end", "train --config /dev/zero", 2, ("/dev/zero", "1,000,000 bytes")),
    Mistake("config is no JSON", "train --config bad.json", 2, ("bad.json", "JSON"), text("bad.json", "{")),
    Mistake("config is no object", "train --config bad.json", 2, ("bad.json", "JSON object"), text("bad.json", "[]")),
    Mistake(
        "unknown knob in the config",
        "train --config bad.json",
        2,
        ("bad.json", "'epoch'", "did you mean epochs"),
        text("bad.json", '{"train": {"epoch": 3}}'),
    ),
    Mistake(
        "nothing like a knob in the config",
        "train --config bad.json",
        2,
        ("bad.json: unknown knob 'a' in RunConfig; `vitlab train --help-all` lists them",),
        text("bad.json", '{"a": 1}'),
    ),
    Mistake(
        "wrong type in the config",
        "train --config bad.json",
        2,
        ("bad.json", "epochs must be a number, not '3'"),
        text("bad.json", '{"train": {"epochs": "3"}}'),
    ),
    Mistake("config is a folder", "train --config finished", 2, ("finished",)),
    # knobs that cannot be, or do not go together
    Mistake("patch larger than image", TRAIN + "--patch-size 40", 2, ("patch_size 40", "image_size 8", "2 x 2 grid")),
    Mistake(
        "heads do not divide",
        TRAIN + "--embed-dim 48 --num-heads 5",
        2,
        ("num_heads 5", "embed_dim 48", "use 3, 4 or 6"),
    ),
    Mistake("no epochs", TRAIN + "--epochs 0", 2, ("epochs must be above 0, not 0",)),
    Mistake("too many epochs", TRAIN + "--epochs 1e9", 2, ("epochs must be at most 1000000, not 1000000000",)),
    Mistake("negative epochs", TRAIN + "--epochs -1", 2, ("epochs must be above 0, not -1",)),
    Mistake("lr is no number", TRAIN + "--lr nan", 2, ("lr must be a finite number, not nan",)),
    Mistake("lr is zero", TRAIN + "--lr 0", 2, ("lr must be above 0, not 0",)),
    Mistake("all for validation", TRAIN + "--val-fraction 1", 2, ("val_fraction must be below 1, not 1",)),
    Mistake(
        "none left to train", TRAIN + "--val-fraction 0.999", 2, ("val_fraction 0.999", "97 images", "no training")
    ),
    Mistake("text for a number", TRAIN + "--epochs ten", 2, ("epochs must be a number, not 'ten'",)),
    Mistake("text among numbers", TRAIN + "--head-hidden 8 a", 2, ("head_hidden must be", "whole number", "'a'")),
    Mistake("negative seed", TRAIN + "--seed -1", 2, ("seed must be at least 0, not -1",)),
    Mistake("misspelled choice", TRAIN + "--pool maen", 2, ("pool", "'maen'", "did you mean mean")),
    Mistake("width for sincos", TRAIN + "--pos-embed sincos --embed-dim 6", 2, ("sincos", "embed_dim", "4", "6")),
    Mistake("crop larger than the image", TRAIN + "--crop 9", 2, ("crop 9", "image_size 8")),
    Mistake("merged attention with heads", TRAIN + "--attn-form merged", 2, ("one head, not 3", "--num-heads 1")),
    Mistake("min_lr above lr", TRAIN + "--min-lr 1 --lr 0.1", 2, ("min_lr 1", "lr 0.1")),
    Mistake("flips on digits", TRAIN + "--data digits --flip", 2, ("flip", "digits", "--no-flip", "--force-flip")),
    Mistake(
        "no GPU",
        TRAIN + "--device cuda",
        2,
        ("cuda", "--device cpu"),
        patched("torch.cuda.is_available", lambda: False),
    ),
    Mistake(
        "more threads than there can be",
        TRAIN + "--threads 100000",
        2,
        ("threads", "100000"),
        patched("torch.set_num_threads", failing(AssertionError("torch would crash"))),
    ),
    # data
    Mistake("unknown data set", TRAIN + "--data mnst", 3, ("'mnst'", "did you mean mnist")),
    Mistake("no such folder", TRAIN + "--data ./pets", 3, ("no folder or file './pets'; name a folder", ".npz")),
    Mistake("no such file", TRAIN + "--data bad.npz", 3, ("no file bad.npz", "exists")),
    *(
        Mistake(f"{name} as data", f"train --out run --data {name}", 3, tuple(says), text(name, content))
        for name, content, *says in (
            ("ages.csv", "id,survived,name,age\n1,0,Bob,40\n", "no column called label; its first line must name"),
            ("empty.csv", "", "is no table that vitlab can use; its first line must name the columns"),
            ("notes.csv", "hello\n", "is no table that vitlab can use; its first line must name the columns"),
            ("pixels.csv", ",".join(f"pixel{n}" for n in range(16)), "has no column called label"),
            ("gone.csv", "file,label\nx.png,cat\ny.png,dog\n", "names files that are not below", "'x.png'"),
            ("x.npy", "", "one array", 'x.npz", x_train=x, y_train=y)'),
            ("x.mp4", "", "x.mp4 is a file; as data, name a folder"),
            ("x.png", "", "x.png is a picture; as data, name a folder", "vitlab predict RUN"),
        )
    ),
    Mistake("a run as data", "train --out run --data finished", 3, ("is a run, not data; --init-from",)),
    Mistake("a web address", "train --out run --data https://a.b/c.npz", 3, ("is a web address", "download the file")),
    Mistake(
        "--data for --on",
        "evaluate finished --data other.npz",
        3,
        ("--data says where the own images of finished are now", "measure on them with --on other.npz"),
        lambda props: write_npz(Path("other.npz"), train=98),
    ),
    Mistake("folder without classes", TRAIN + "--data pets", 3, ("pets", "sub-folder"), text("pets/1.png", "")),
    Mistake("folder with one class", TRAIN + "--data pets", 3, ("pets", "cat", "two"), text("pets/cat/1.png", "")),
    Mistake(
        "folder with broken images",
        TRAIN + "--data pets",
        3,
        ("pets", "0 readable images", "cat/1.png", "not a PNG, JPEG", "at least 2"),
        lambda props: [text(f"pets/{name}/1.png", "no image")(props) for name in ("cat", "dog")],
    ),
    Mistake("no .npz inside", BAD_DATA, 3, ("bad.npz", "not a readable .npz"), text("bad.npz", "hello")),
    Mistake("half an .npz", TRAIN, 3, ("toy.npz", "not a readable .npz"), cut("toy.npz")),
    Mistake("pickled images", BAD_DATA, 3, ("bad.npz", "bject"), npz(x_train=np.array([{}] * 40, dtype=object))),
    Mistake("float images", BAD_DATA, 3, ("bad.npz", "float64", "must be uint8"), npz(x_train=IMAGES / 255.0)),
    Mistake("unknown arrays", BAD_DATA, 3, ("bad.npz", "x_train", "it holds y_train"), npz(x_train=None)),
    Mistake("float labels", BAD_DATA, 3, ("bad.npz", "labels", "must be integers"), npz(y_train=LABELS / 2)),
    Mistake(
        "labels out of range",
        BAD_DATA,
        3,
        ("bad", "2 classes", "label is 2", "must be 0 to 1"),
        npz(classes=np.array(["a", "b"])),
    ),
    Mistake(
        "unknown class in the test",
        BAD_DATA,
        3,
        ("bad", "3 classes", "test label is 9"),
        npz(x_test=IMAGES, y_test=LABELS + 7),
    ),
    Mistake("negative labels", BAD_DATA, 3, ("bad", "must not be negative", "-1"), npz(y_train=LABELS - 1)),
    Mistake("fewer labels than images", BAD_DATA, 3, ("bad", "40 images", "39 labels"), npz(y_train=LABELS[:-1])),
    Mistake("one class", BAD_DATA, 3, ("bad", "only 1 class", "two or more"), npz(y_train=LABELS * 0)),
    # where the run goes
    Mistake("--out is a file", "train --config tiny.json --out toy.npz", 2, ("toy.npz is a file; name a new folder",)),
    Mistake("--out below a file", "train --config tiny.json --out toy.npz/run", 6, ("toy.npz/run", "a file", "choose")),
    Mistake(
        "--out is taken",
        "train --config tiny.json --out finished",
        8,
        ("finished is not empty: it holds a run that has ended; choose another --out",),
    ),
    # resuming
    Mistake("resume of nothing", "train --resume nothing", 8, ("there is no run nothing", "vitlab train")),
    Mistake(
        "resume of what is no run",
        "train --resume folder",
        8,
        ("folder", "config.json", "vitlab train"),
        text("folder/notes.txt", ""),
    ),
    Mistake(
        "resume with another config",
        "train --resume unfinished --epochs 9",
        8,
        ("unfinished", "epochs 3.0, not 9.0", "new run"),
    ),
    Mistake("resume with a preset", "train --resume unfinished --preset small", 2, ("--resume", "--preset")),
    Mistake("resume elsewhere", "train --resume unfinished --out run", 2, ("--resume", "--out")),
    Mistake("resume of a diverged run", "train --resume diverged", 8, ("diverged", "new run", "lower lr")),
    Mistake(
        "run in use", "train --resume unfinished", 7, ("unfinished", "another vitlab", "wait"), locked("unfinished")
    ),
    Mistake(
        "other threads",
        "train --resume unfinished --threads 2",
        8,
        ("threads was 1, is now 2", "bit-exact", "--allow-drift"),
    ),
    Mistake("a name that no file can have", f"train --resume {'n' * 300}", 8, ("there is no run nnn", "vitlab train")),
    Mistake(
        "environment.json without a name",
        "train --resume unfinished",
        8,
        ("environment.json", "damaged", "'precision'"),
        edit("unfinished/environment.json", '"precision"', '"precisely"'),
    ),
    Mistake(
        "result.json with a status only",
        "train --resume finished",
        8,
        ("result.json", "damaged", "delete"),
        text("finished/result.json", '{"status": "done"}'),
    ),
    *(
        Mistake(f"{knob} beyond all measure", f"{TRAIN} --{knob} {10**20}", 2, (knob.replace("-", "_"), "at most"))
        for knob in ("batch-size", "eval-batch-size", "image-size", "embed-dim", "head-dim", "mlp-ratio", "depth")
    ),
    Mistake(
        "a --config that is nested too deeply",
        "train --config deep.json",
        2,
        ("deep.json", "JSON"),
        text("deep.json", "[" * 200_000),
    ),
    Mistake(
        "other data",
        "train --resume unfinished --data toy.npz",
        3,
        ("unfinished", "holds others", "new run"),
        lambda props: write_npz(Path("toy.npz"), train=98),
    ),
    Mistake(
        "config.json truncated",
        "train --resume unfinished",
        8,
        ("config.json", "damaged"),
        cut("unfinished/config.json"),
    ),
    Mistake(
        "config.json damaged",
        "train --resume unfinished",
        8,
        ("config.json", "damaged", "epochs"),
        edit("unfinished/config.json", '"epochs": 3.0', '"epochs": "many"'),
    ),
    Mistake(
        "config.json of another network",
        "train --resume unfinished",
        8,
        ("unfinished", "config.json"),
        edit("unfinished/config.json", '"depth": 2', '"depth": 3'),
    ),
    Mistake(
        "config.json lost",
        "train --resume unfinished",
        8,
        ("unfinished", "config.json"),
        gone("unfinished/config.json"),
    ),
    Mistake(
        "environment.json damaged",
        "train --resume unfinished",
        8,
        ("environment.json", "damaged"),
        cut("unfinished/environment.json"),
    ),
    Mistake(
        "environment.json emptied",
        "train --resume unfinished",
        8,
        ("environment.json", "damaged"),
        text("unfinished/environment.json", "{}"),
    ),
    Mistake("data.json damaged", "train --resume unfinished", 8, ("data.json", "damaged"), cut("unfinished/data.json")),
    Mistake(
        "data.json emptied",
        "train --resume unfinished",
        8,
        ("data.json", "damaged"),
        text("unfinished/data.json", "{}"),
    ),
    Mistake(
        "result.json damaged", "train --resume unfinished", 8, ("result.json", "damaged"), cut("unfinished/result.json")
    ),
    Mistake(
        "result.json emptied",
        "train --resume unfinished",
        8,
        ("result.json", "damaged"),
        text("unfinished/result.json", "{}"),
    ),
    # evaluating
    Mistake("evaluate nothing", "evaluate nothing", 8, ("there is no run nothing", "vitlab train")),
    *(
        Mistake(f"{line.split()[0]} a study", line, 8, ("dash is a study, not a run; `vitlab look dash`",), STUDY)
        for line in (
            "evaluate dash",
            "show dash",
            "runs delete dash --yes",
            "export dash --to onnx",
            "predict dash x.png",
        )
    ),
    Mistake("a file of a run", "evaluate finished/config.json", 8, ("file of a run; name the folder: finished",)),
    Mistake("runs of no folder", "runs list nothing", 8, ("there is no folder nothing", "`vitlab runs`")),
    Mistake("delete nothing", "runs delete nothing --yes", 8, ("there is no run nothing",)),
    Mistake("status of nothing", "study --status nothing", 8, ("there is no study nothing",)),
    Mistake(
        "a study into a file", "study --vary depth=1,2 --config tiny.json --out tiny.json", 2, ("tiny.json is a file;",)
    ),
    Mistake(
        "out holds other files",
        "train --config tiny.json --out pets",
        8,
        ("pets is not empty: it holds other files; choose another --out",),
        text("pets/notes.txt", ""),
    ),
    Mistake(
        "out is unfinished", "train --config tiny.json --out unfinished", 8, ("`vitlab train --resume unfinished`",)
    ),
    Mistake(
        "more epochs for a finished run",
        "train --resume finished --epochs 5",
        8,
        ("finished is finished, with 3 epochs; `vitlab train --resume finished --epochs-more N`",),
    ),
    Mistake(
        "resume without weights",
        "train --resume finished",
        8,
        ("model.safetensors is missing; delete finished/result.json",),
        gone("finished/model.safetensors"),
    ),
    Mistake("evaluate a file", "evaluate toy.npz", 8, ("toy.npz", "not a run folder")),
    Mistake("evaluate an unfinished run", "evaluate unfinished", 8, ("unfinished", "vitlab train --resume unfinished")),
    Mistake("evaluate a diverged run", "evaluate diverged", 8, ("diverged and has no", "new run", "lower lr")),
    Mistake(
        "weights with a flipped bit",
        "evaluate finished",
        8,
        ("model.safetensors", "damaged", "SHA-256", "--resume finished"),
        flip("finished/model.safetensors"),
    ),
    Mistake(
        "weights lost", "evaluate finished", 8, ("model.safetensors", "missing"), gone("finished/model.safetensors")
    ),
    Mistake("result.json cut", "evaluate finished", 8, ("result.json", "damaged"), cut("finished/result.json")),
    Mistake(
        "weights of another network",
        "evaluate finished",
        8,
        ("finished", "config.json", "has been changed", "train again"),
        edit("finished/config.json", '"depth": 2', '"depth": 3'),
    ),
    Mistake(
        "evaluate on other data",
        "evaluate finished --data toy.npz",
        3,
        ("finished", "holds others"),
        lambda props: write_npz(Path("toy.npz"), test=32),
    ),
    # ends that leave a run folder behind, whole
    Mistake(
        "diverged",
        TRAIN + "--lr 1e30",
        4,
        ("infinite or NaN", "run", "--lr"),
        leaves=RUN_FILES,
        status="diverged",
    ),
    Mistake(
        "out of memory while training",
        TRAIN,
        5,
        ("out of memory", "--batch-size"),
        patched("vitlab.runs.session.fit", failing(MemoryError())),
        leaves=RUN_FILES,
        status="failed:memory",
    ),
    Mistake(
        "out of memory in torch",
        TRAIN,
        5,
        ("out of memory", "--batch-size"),
        patched("vitlab.runs.session.fit", failing(NO_MEMORY)),
        leaves=RUN_FILES,
        status="failed:memory",
    ),
    Mistake(
        "network too large for the memory",
        TRAIN,
        5,
        ("out of memory",),
        patched("vitlab.runs.prepare.build_model", failing(NO_MEMORY)),
    ),
    Mistake(
        "out of memory in the last evaluation",
        TRAIN,
        5,
        ("out of memory", "--eval-batch-size"),
        patched("vitlab.runs.result.predict_logits", failing(NO_MEMORY)),
        leaves=RUN_FILES,
        status="failed:memory",
    ),
    Mistake(
        "out of memory in evaluate",
        "evaluate finished",
        5,
        ("out of memory",),
        patched("vitlab.runs.result.predict_logits", failing(NO_MEMORY)),
    ),
]

# What makes a message say what to do: an option, a command, or one of these words.
ADVICE = re.compile(
    r"--|`vitlab|must|did you mean|choose|\buse\b|needs|name an?|new run|may be|train again|delete|remove|gives|wait|"
    r"\bput\b|replace|restore|correct|\bfree\b|change|lower|shorten|raise|save|name the|download|add|leave"
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "-"))
def test_a_mistake_ends_in_one_clear_line(mistake: Mistake, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        mistake.setting(Props(monkeypatch, stack))
        before = snapshot(stage)
        answer = vitlab(mistake.line)
        new = changes(before, snapshot(stage))
        # Without new files the stage is as it was, so the same command with --json must end the same way.
        again = answer if mistake.leaves else vitlab(mistake.line + " --json")
    assert (answer.code, answer.out) == (mistake.code, "")
    assert [words for words in mistake.says if words not in answer.error] == [], answer.error
    assert [path for path in new if not any(fnmatch.fnmatch(path, kind) for kind in mistake.leaves)] == []
    assert (again.code, again.out, again.error) == (mistake.code, "", answer.error)
    assert (stage / "run" / "result.json").exists() == (mistake.status is not None)
    if mistake.status is not None:
        result = json.loads((stage / "run" / "result.json").read_text())
        assert (result["status"], result["model_sha256"]) == (mistake.status, None)
    assert ADVICE.search(answer.error.removeprefix("vitlab: ")), f"no word of what to do: {answer.error}"


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What was added, changed or removed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def test_there_are_enough_mistakes_each_with_its_own_name() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 35


def test_debug_shows_where_a_mistake_came_from(stage: Path) -> None:
    answer = finish(start("presets smal --debug"))
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "ConfigError: there is no preset 'smal'" in answer.err


# ------------------------------------------------------------------------------- damage that a resume survives


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_costs_steps_but_not_the_run(
    stage: Path, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    props = Props(monkeypatch, contextlib.ExitStack())
    bad = sorted(Path("unfinished/checkpoints").iterdir(), reverse=True)[:damaged]
    for path in bad:
        flip(str(path))(props)
    answer = vitlab("train --resume unfinished")
    assert answer.code == 0
    assert digest("unfinished") == digest("finished")
    notes = [line for line in answer.err.splitlines() if "is damaged" in line]
    assert [str(path) in note for path, note in zip(bad, notes, strict=True)] == [True] * damaged
    assert ("epoch 1/3" in answer.err) == (damaged == 2)


def test_without_any_good_checkpoint_the_note_says_that_the_run_starts_anew(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in Path("unfinished/checkpoints").iterdir():
        flip(str(path))(Props(monkeypatch, contextlib.ExitStack()))
    notes = vitlab("train --resume unfinished").err.splitlines()
    assert [line for line in notes if "is damaged" in line]
    assert [line for line in notes if "starts from the beginning" in line]


def test_drift_is_accepted_when_asked_for_and_written_down(stage: Path) -> None:
    assert vitlab("train --resume unfinished --threads 2 --allow-drift").code == 0
    environment = json.loads(Path("unfinished/environment.json").read_text())
    assert [entry["drift"] for entry in environment["resumed"]] == [["threads was 1, is now 2"]]


def test_a_run_is_resumed_with_the_threads_that_it_began_with(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine would choose by itself: only so are the bits the same."""
    run = RunFolder(Path("unfinished"))
    config, data, about = run.config().with_knobs(threads=None), run.data(), run.environment()
    gone("unfinished/result.json")(Props(monkeypatch, contextlib.ExitStack()))
    run.begin(config, data, about)
    monkeypatch.setattr("vitlab.machine.limited_cores", lambda: (2, ""))
    assert vitlab("train --resume unfinished").code == 0
    environment = json.loads(Path("unfinished/environment.json").read_text())
    assert [entry["drift"] for entry in environment["resumed"]] == [[]]


def digest(run: str) -> str:
    """The SHA-256 of a finished run's weights."""
    result = json.loads((Path(run) / "result.json").read_text())
    assert result["status"] == "done"
    return str(result["model_sha256"])


# ---------------------------------------------------------------- disks, made in a process that may mount them

MOUNT = """
mount -t tmpfs -o size=128k none small && mount --bind -o ro locked locked &&
mount --bind -o ro finished finished && mount --bind -o ro unfinished unfinished || exit 77
exec "$0" -c "$1"
"""
ON_DISKS = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.command import snapshot, vitlab
from vitlab.runs import session

ends = {{}}
def step(name, line):
    answer = vitlab(line)
    ends[name] = vars(answer) | {{"files": snapshot(Path("."))}}

step("start", "presets --quiet")
step("read-only", "train --config tiny.json --out locked/run")
step("resume read-only", "train --resume unfinished")
step("evaluate read-only", "evaluate finished --quiet")
step("no room", "train --config tiny.json --out small/run")
session.check_free_space = lambda *arguments: None
step("full", "train --config tiny.json --out small/run --quiet")
subprocess.run("mount -o remount,size=8m small".split(), check=True)
step("room again", "train --resume small/run --quiet --json")
print(json.dumps(ends))
"""
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class End:
    """How a command on such a disk ended, and all files after it."""

    answer: Answer
    files: dict[str, str]


@pytest.fixture(scope="module")
def disks(scenery: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """What happens on a tmpfs of 128 KiB, in a read-only folder, and with read-only runs."""
    folder = shutil.copytree(scenery, tmp_path_factory.mktemp("disks"), dirs_exist_ok=True)
    for name in ("small", "locked"):
        (folder / name).mkdir()
    command = ["unshare", "-m", "sh", "-c", MOUNT, sys.executable, ON_DISKS.format(root=str(ROOT))]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("NOT TESTED: full and read-only disks; there is no `unshare` here")
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"NOT TESTED: full and read-only disks; this process may not mount: {done.stderr}")
    ends = json.loads(done.stdout)
    return {name: End(Answer(e["code"], e["out"], e["err"]), e["files"]) for name, e in ends.items()}


def refused(end: End, *says: str) -> None:
    """Exit code 6 and one line."""
    assert (end.answer.code, end.answer.out) == (6, "")
    assert [words for words in says if words not in end.answer.error] == [], end.answer.error


def test_a_read_only_place_is_refused_before_training(disks: dict[str, End]) -> None:
    refused(disks["read-only"], "locked/run", "read-only", "choose another folder")
    refused(disks["resume read-only"], "unfinished", "read-only")
    assert "epoch" not in disks["read-only"].answer.err + disks["resume read-only"].answer.err
    assert disks["resume read-only"].files == disks["start"].files


def test_evaluating_writes_nothing_so_it_works_on_a_read_only_run(disks: dict[str, End]) -> None:
    assert (disks["evaluate read-only"].answer.code, disks["evaluate read-only"].answer.err) == (0, "")


def test_too_small_a_disk_is_refused_before_training(disks: dict[str, End]) -> None:
    refused(disks["no room"], "small/run", "0.1 MB", "may need 1.2 MB", "--out")
    assert changes(disks["start"].files, disks["no room"].files) in ([], ["small/run"])


def test_a_disk_that_fills_up_keeps_what_it_has_and_the_run_goes_on_when_there_is_room(disks: dict[str, End]) -> None:
    full, after, unbroken = disks["full"], disks["room again"], disks["start"].files["finished/model.safetensors"]
    refused(full, "small/run", "disk is full")
    new = [path.removeprefix("small/") for path in changes(disks["no room"].files, full.files)]
    assert [path for path in new if not any(fnmatch.fnmatch(path, kind) for kind in RUN_FILES)] == []
    assert [path for path in new if path.endswith(".safetensors")]
    assert (after.answer.code, after.answer.err) == (0, "")
    assert json.loads(after.answer.out)["model_sha256"] == unbroken
    assert after.files["small/run/model.safetensors"] == unbroken


def test_a_disk_that_fills_up_says_how_to_go_on(disks: dict[str, End]) -> None:
    refused(disks["full"], "--resume small/run")
