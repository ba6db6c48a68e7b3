"""Studies without training: an executor that only pretends, and cells for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitlab.config import RunConfig
from vitlab.files import make_folder, write_json
from vitlab.studies.grid import Cell, Study, make_cells
from vitlab.studies.unit import Ending, Unit, Whereabouts

TIMES = ("train_seconds", "wall_seconds", "images_per_second", "ended_utc", "attempts", "beside")


def cells(*depths: int) -> tuple[Cell, ...]:
    return make_cells(RunConfig(), [{"depth": depth} for depth in depths], {})


def a_study(*depths: int, seeds: int = 2) -> Study:
    return Study("depths", cells(*depths), tuple(range(seeds)))


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an interruption must not change."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def val_by_depth(config: RunConfig) -> float:
    return config.model.depth / 100


class Pretender:
    """Ends every unit at the next look, with the codes that ``codes`` lists for it (0 in the end). ``began`` records
    what it was given, ``most`` how many ran at a time."""

    def __init__(
        self,
        codes: dict[tuple[int, int], list[int]] | None = None,
        slots: int = 1,
        score: Callable[[RunConfig], float] = val_by_depth,
    ) -> None:
        self.codes, self.slots, self.score = codes or {}, slots, score
        self.began: list[tuple[int, int]] = []
        self.running: list[Unit] = []
        self.most, self.stopped = 0, 0

    def begin(self, unit: Unit) -> None:
        config = RunConfig.from_dict(unit.config)
        assert config.digest() == unit.name == unit.folder.name[:12]
        self.began.append((config.model.depth, config.train.seed))
        self.running.append(unit)
        self.most = max(self.most, len(self.running))

    def ended(self, seconds: float) -> list[Ending]:
        units, self.running = self.running[:1], self.running[1:]
        return [Ending(unit, self.end(unit)) for unit in units]

    def end(self, unit: Unit) -> int:
        config = RunConfig.from_dict(unit.config)
        code = (self.codes.get((config.model.depth, config.train.seed)) or [0]).pop(0)
        if code:
            unit.log.write_text(f"starting\n\nended with {code}\n")
        else:
            make_folder(unit.folder)
            digest = self.trained_on(unit)
            settings = {"image_size": 8, "mean": [0.5], "std": [0.5]}
            data = {"sha256": digest, "classes": ["a", "b"], "channels": 1, "preprocess": settings}
            write_json(unit.folder / "data.json", data)
            write_json(unit.folder / "result.json", result_of(config, self.score(config)) | {"data_sha256": digest})
        return code

    def trained_on(self, unit: Unit) -> str | None:
        """The digest of the images that it pretends to have used."""
        return unit.data_sha256

    def where(self) -> dict[str, Whereabouts]:
        return {}

    def stop(self) -> None:
        self.running, self.stopped = [], self.stopped + 1


def result_of(config: RunConfig, score: float) -> dict[str, Any]:
    """A result.json as a run leaves it, as far as studies read it."""
    return {
        "status": "done", "test_top1": score / 2, "test_top1_interval": [0.0, 1.0], "test_top5": 1.0, "test_loss": 0.1,
        "test_images": 100, "val_top1": score, "val_images": 50, "selected_epoch": 1, "train_seconds": 2.0,
        "wall_seconds": 3.0, "images_per_second": 10.0, "threads": 1, "device": "cpu", "precision": "fp32",
        "model_sha256": "0" * 64, "config_digest": config.digest(), "params": 1000, "params_by_part": {"head": 500},
        "flops_per_image": 7, "epochs": 1.0, "train_images": 200,
    }  # fmt: skip
