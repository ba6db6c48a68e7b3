"""What the trackers hold is what history.jsonl and result.json hold, and no tracker can touch a run."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitlab as vitlab_in_python
from tests.command import lay_out, vitlab
from tests.tiny import tiny_config, write_npz
from vitlab import Reporter, RunFolder, resume_run, train_run
from vitlab.errors import ConfigError
from vitlab.runs.trackers import TRACKERS, chosen

NUMBERS = ("step", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "train_seconds", "wall_seconds")
NAMES = ("step", "lr", "train/loss", "train/top1", "val/loss", "val/top1", "train/seconds", "wall_seconds")

History = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "toy.npz")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Modules with the public calls of wandb and trackio, which write down how they are called."""
    calls: dict[str, list[Any]] = {"wandb": [], "trackio": []}

    class Run:
        def __init__(self, name: str, id: str) -> None:
            self.name, self.id = name, id

        def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
            torch.manual_seed(7)  # a tracker may use randomness
            print("a line")  # and print
            calls[self.name].append(("log", step, dict(metrics)))

        def finish(self, exit_code: int | None = None) -> None:
            calls[self.name].append(("finish", exit_code))

    def init_wandb(*, project: str, name: str, id: str | None, resume: str, config: Any, reinit: str) -> Run:
        calls["wandb"].append(("init", project, name, id, resume, config))
        return Run("wandb", id or "w4nd8")

    def init_trackio(*, project: str, name: str, resume: str, config: Any) -> Run:
        calls["trackio"].append(("init", project, name, resume, config))
        return Run("trackio", name)

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init_wandb))
    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=init_trackio))
    return calls


def history_of(run: Path) -> History:
    """(epoch, number) of each column of history.jsonl and each metric of result.json, by its name in a tracker."""
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    found = {
        tag: [(row["epoch"], row[name]) for row in rows if row[name] is not None]
        for name, tag in zip(NUMBERS, NAMES, strict=True)
    }
    result = RunFolder(run).result()
    assert result is not None
    tests = {f"test/{name}": result[f"test_{name}"] for name in ("top1", "loss", "macro_f1", "calibration_error")}
    return {name: points for name, points in found.items() if points} | {
        name: [(len(rows), number)] for name, number in tests.items() if number is not None
    }


def in_float32(history: History) -> History:
    """Numbers as TensorBoard stores them."""
    return {name: [(epoch, float(np.float32(one))) for epoch, one in points] for name, points in history.items()}


def read_tensorboard(run: Path) -> History:
    """The scalars that TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def stop_after(epoch: int) -> Reporter:
    """A reporter that asks for an end, as Ctrl-C does, in the step after an epoch."""

    def on_epoch(task: Any, row: dict[str, Any]) -> None:
        if row["epoch"] == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    return Reporter(epoch=on_epoch)


def forget_checkpoints(run: Path) -> None:
    """As if the last checkpoint had been written before the first epoch's end: all epochs are trained again."""
    for path in (run / "checkpoints").iterdir():
        path.unlink()


def is_part(part: History, whole: History) -> bool:
    """Whether ``whole`` has every series of ``part``, with exactly the same points."""
    return {name: whole.get(name) for name in part} == part


def test_tensorboard_holds_the_history_in_float32(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_run(tiny_config(data), run, log="tensorboard")
    found = read_tensorboard(run)
    assert is_part(in_float32(history_of(run)), found)
    assert len(found["train/loss"]) == 3


def test_tensorboard_holds_a_resumed_run_once(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_run(tiny_config(data, epochs=5), run, stop_after(2), log="tensorboard")
    assert [epoch for epoch, _ in read_tensorboard(run)["train/loss"]] == [1, 2]
    forget_checkpoints(run)
    assert resume_run(run, log=["tensorboard"]).status == "done"
    assert is_part(in_float32(history_of(run)), read_tensorboard(run))


def test_tensorboard_shows_the_knobs(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    run, config = tmp_path / "run", tiny_config(data)
    train_run(config, run, log="tensorboard")
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    knobs = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    own = config.values()
    assert set(knobs) == set(own)
    assert (knobs["lr"].number_value, knobs["pool"].string_value) == (own["lr"], own["pool"])
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text.removeprefix("```json").removesuffix("```")) == RunFolder(run).config().to_dict()


def test_mlflow_holds_the_history_exactly(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an interruption; and a finished run can be sent later."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    from mlflow import MlflowClient

    client, config = MlflowClient(), tiny_config(data, epochs=5)

    def only_run() -> Any:
        experiment: Any = client.get_experiment_by_name("vitlab")
        [found] = client.search_runs([experiment.experiment_id])
        return found

    def metrics(found: Any) -> History:
        names = found.data.metrics
        return {n: [(one.step, one.value) for one in client.get_metric_history(found.info.run_id, n)] for n in names}

    one = tmp_path / "one"
    train_run(config, one, stop_after(2), log="mlflow")
    found = only_run()
    assert (found.info.run_name, found.info.status) == ("one", "KILLED")
    assert is_part(history_of(one), metrics(found))
    resume_run(one, log="mlflow")
    found = only_run()
    assert found.info.status == "FINISHED"
    assert is_part(history_of(one), metrics(found))
    assert found.data.params["patch_size"] == "2"
    assert set(found.data.params) == set(config.values())

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "later").as_uri())
    client = MlflowClient()
    two = tmp_path / "two"
    train_run(config, two)
    resume_run(two, log="mlflow")
    resume_run(two, log="mlflow")  # everything is there
    assert is_part(history_of(two), metrics(only_run()))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_public_calls_receive_the_history(name: str, data: Path, tmp_path: Path, fake: dict[str, list[Any]]) -> None:
    run, config = tmp_path / "run", tiny_config(data, epochs=5)
    train_run(config, run, stop_after(2), log=name)
    resume_run(run, log=name)
    calls = fake[name]
    assert [call[0] for call in calls] == [
        "init",
        "log",
        "log",
        "log",
        "finish",
        "init",
        "log",
        "log",
        "log",
        "log",
        "finish",
    ]
    begun, again = (call for call in calls if call[0] == "init")
    assert begun[1] == again[1] == "vitlab"
    assert (begun[-2], begun[-1]) == ("allow", RunFolder(run).config().values())
    if name == "wandb":
        assert (begun[2:4], again[3]) == (("run", None), "w4nd8")
        assert [call[1] for call in calls if call[0] == "finish"] == [1, 0]
    else:
        assert begun[2].startswith("run-")
        assert again[2] == begun[2]
    sent: History = {}
    for _, epoch, numbers in (call for call in calls if call[0] == "log"):
        for tag, number in numbers.items():
            sent.setdefault(tag, []).append((epoch, number))
    assert is_part(history_of(run), sent)


def test_a_copy_can_be_begun_when_a_run_is_resumed(data: Path, tmp_path: Path, fake: dict[str, list[Any]]) -> None:
    run = tmp_path / "run"
    train_run(tiny_config(data), run, stop_after(1))
    resume_run(run, log="trackio")
    assert [call[1] for call in fake["trackio"] if call[0] == "log"] == [1, 2, 3, 3]


def test_a_repeated_epoch_is_sent_once(data: Path, tmp_path: Path, fake: dict[str, list[Any]]) -> None:
    run = tmp_path / "run"
    train_run(tiny_config(data), run, stop_after(2), log="trackio")
    forget_checkpoints(run)
    resume_run(run, log="trackio")
    assert [call[1] for call in fake["trackio"] if call[0] == "log"] == [1, 2, 2, 3, 3]


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_tracker_that_fails_costs_one_line(
    broken: str, data: Path, tmp_path: Path, fake: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("the server is gone.\nTraceback: much more")

    without = train_run(tiny_config(data), tmp_path / "without")
    if broken == "init":
        monkeypatch.setattr(sys.modules["trackio"], "init", fail)
    else:
        run = sys.modules["trackio"].init(project="", name="", resume="", config={})
        monkeypatch.setattr(type(run), broken, fail)
    notes: list[str] = []
    run = tmp_path / "my run"
    result = train_run(tiny_config(data), run, Reporter(note=notes.append), log="trackio")
    assert result.status == "done"
    failures = [note for note in notes if "trackio" in note]
    assert failures == [
        "trackio failed (the server is gone); training is not affected; "
        f"afterwards `vitlab train --resume '{run}' --log trackio` sends the rest"
    ]
    assert (result.model_sha256, result.config_digest) == (without.model_sha256, without.config_digest)
    monkeypatch.undo()


def test_trackers_change_nothing_in_a_run(data: Path, tmp_path: Path, fake: dict[str, list[Any]]) -> None:
    runs = tmp_path / "without", tmp_path / "with"
    one = train_run(tiny_config(data), runs[0])
    two = train_run(tiny_config(data), runs[1], log="tensorboard,wandb,trackio")
    assert (one.model_sha256, one.config_digest) == (two.model_sha256, two.config_digest)
    assert len(fake["wandb"]) == len(fake["trackio"]) == 6
    answer = vitlab(f"check {runs[1]}")
    assert answer.code == 0, answer.out


def test_a_damaged_note_of_the_copies_is_refused(data: Path, tmp_path: Path, fake: dict[str, list[Any]]) -> None:
    """A stranger's run folder must not name any run of the user's tracker with letters that a URL gives a meaning."""
    run = tmp_path / "run"
    train_run(tiny_config(data), run, stop_after(1), log="wandb")
    (run / "trackers.json").write_text('{"wandb": {"id": "../../x", "epoch": 1, "ended": false}}')
    notes: list[str] = []
    assert resume_run(run, Reporter(note=notes.append), log="wandb").status == "done"
    assert any("is damaged: an id is not one; delete it" in note for note in notes)
    assert [call[0] for call in fake["wandb"]].count("init") == 1


def test_the_command_line_names_trackers(
    tmp_path: Path, fake: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path))
    answer = vitlab("train --config tiny.json --out run --json --log wandb,trackio --log tensorboard")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["status"] == "done"  # what trackers print goes elsewhere
    assert fake["wandb"][-1] == ("finish", 0)
    assert (tmp_path / "run" / "tensorboard").is_dir()
    wrong = vitlab("train --config tiny.json --out other --log tensorbord")
    assert wrong.error == "vitlab: there is no tracker 'tensorbord' (did you mean tensorboard?)"
    monkeypatch.setitem(sys.modules, "mlflow", None)
    missing = vitlab("train --config tiny.json --out other --log mlflow")
    assert (missing.code, "mlflow is not installed: pip install " in missing.error) == (2, True)
    assert not (tmp_path / "other").exists()


def test_python_names_trackers(data: Path, tmp_path: Path, fake: dict[str, list[Any]]) -> None:
    run = vitlab_in_python.train(tiny_config(data), out=tmp_path / "run", progress=False, log="wandb")
    run.resume(progress=False, log=["wandb", "trackio"])
    epochs = {name: [call[1] for call in calls if call[0] == "log"] for name, calls in fake.items()}
    assert epochs == {"wandb": [1, 2, 3, 3], "trackio": [1, 2, 3, 3]}


def test_names_of_trackers() -> None:
    assert chosen("tensorboard, tensorboard,") == chosen(["tensorboard"]) == ("tensorboard",)
    assert chosen(()) == ()
    with pytest.raises(ConfigError, match="there are tensorboard, mlflow, wandb and trackio"):
        chosen("visdom")
    assert list(TRACKERS) == ["tensorboard", "mlflow", "wandb", "trackio"]
