"""Files that parse but do not hold what a report needs end in one line, never in a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import vitlab
from tests.tiny import tiny_config, write_npz
from vitlab import train_run

STUDY = Path(__file__).parents[1] / "studies" / "seed-projection"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    train_run(tiny_config(write_npz(folder / "glyphs.npz"), epochs=1, checkpoint_seconds=60.0), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("result.json", {"train_seconds": None}, "'train_seconds' is missing"),
        ("result.json", {"train_seconds": "12"}, "'train_seconds' is '12'"),
        ("result.json", {"test_top1": "good"}, "'test_top1' is 'good'"),
        ("result.json", {"test_top1": float("nan")}, "it is not valid JSON"),
        ("result.json", {"test_top1": 0.5}, "its SHA-256 has changed"),
        ("environment.json", {"started_utc": "today"}, "its SHA-256 has changed"),
        ("result.json", {"test_top1_interval": [0.5]}, "'test_top1_interval' is [0.5]"),
        ("result.json", {"params_by_part": {"head": None}}, "'params_by_part' is {'head': None}"),
        ("result.json", {"params": 0}, "'params' is 0"),
        ("result.json", {"images_per_second": "x" * 99}, "'images_per_second' is 'xxx"),
        ("environment.json", {"started_utc": 7}, "'started_utc' is 7"),
        ("history.jsonl", [7], "row 1: it is not a JSON object"),
        ("history.jsonl", [{"epoch": 1, "train_seconds": 1.0, "train_top1": "0.5"}], "row 1: 'train_top1' is '0.5'"),
        ("history.jsonl", [{"epoch": "one"}], "row 1: 'epoch' is 'one'"),
    ],
    ids=lambda value: None if isinstance(value, dict | list) else str(value)[:30],
)
def test_a_damaged_run_is_one_line(run: Path, tmp_path: Path, name: str, change: Any, said: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / name).read_text()
    if isinstance(change, dict):
        (copy / name).write_text(json.dumps(json.loads(text) | change))
    else:
        (copy / name).write_text("\n".join(map(json.dumps, change)))
    answer = vitlab(f"look {copy} --quiet")
    assert answer.code == 8
    assert f"{copy / name} is damaged: " in answer.error
    assert said in answer.error
    assert answer.error.count("\n") == 0
    assert len(answer.error) < 180 + len(str(copy / name)) + len(str(copy))


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda table: {key: value for key, value in table.items() if key != name}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("table.json", lambda table: table | {"lines": []}, "it holds no cells"),
        ("table.json", lambda table: table | {"lines": 7}, "table.json is damaged"),
        ("table.json", lambda table: table | {"circumstances": []}, "no circumstances"),
        ("table.json", lambda table: table | {"lines": [table["lines"][0] | {"accuracy": "x"}]}, "line 1: 'accuracy'"),
        ("table.json", lambda table: table | {"lines": [table["lines"][0] | {"interval": [1]}]}, "line 1: 'interval'"),
        ("table.json", lambda table: [table], "table.json is damaged"),
        ("rows.jsonl", without("status"), "row 1: 'status' is missing"),
        ("rows.jsonl", without("run"), "row 1: 'run' is missing"),
        ("rows.jsonl", lambda row: row | {"train_seconds": "x"}, "row 1: 'train_seconds' is 'x'"),
        ("rows.jsonl", lambda row: 7, "row 1: it is not a JSON object"),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_a_damaged_study_is_one_line(tmp_path: Path, name: str, change: Callable[[Any], Any], said: str) -> None:
    copy = tmp_path / "study"
    shutil.copytree(STUDY, copy)
    text = (copy / name).read_text()
    first, rest = (text, "") if name == "table.json" else text.split("\n", 1)
    (copy / name).write_text(json.dumps(change(json.loads(first))) + "\n" + rest)
    answer = vitlab(f"look {copy} --quiet")
    assert answer.code == 8
    assert said in answer.error
    assert "run the study again" in answer.error
