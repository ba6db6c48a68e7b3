"""The configuration of a run: all six sections, to and from JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from vitlab.config.knobs import check_limits, did_you_mean, digest, flat_fields, from_dict, to_dict
from vitlab.config.model import ModelConfig
from vitlab.config.sections import AugmentConfig, DataConfig, MachineConfig, OptimConfig, TrainConfig
from vitlab.errors import ConfigError


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines one run."""

    preset: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        for section in sections(self).values():
            check_limits(section)
        if self.optim.min_lr > self.optim.lr:
            raise ConfigError(
                f"min_lr {self.optim.min_lr} is larger than lr {self.optim.lr}, so the rate would rise; lower min_lr"
            )

    def with_knobs(self, **values: Any) -> RunConfig:
        """A copy with some knobs changed, for example ``patch_size=4``; ConfigError for an unknown name."""
        owners = {name: section for name, (section, _) in flat_fields(RunConfig).items()}
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in owners:
                raise ConfigError(f"there is no knob {name!r}{did_you_mean(name, owners)}; docs/knobs.md lists them")
            changed.setdefault(owners[name], {})[name] = value
        parts = {section: replace(getattr(self, section), **new) for section, new in changed.items()}
        return replace(self, **parts)

    def to_dict(self) -> dict[str, Any]:
        """All values as nested dicts, ready for JSON."""
        return to_dict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RunConfig:
        """The RunConfig that ``to_dict`` described; ConfigError for unknown names and wrong types."""
        return from_dict(RunConfig, values)

    def digest(self) -> str:
        """Twelve hexadecimal digits that change whenever anything that affects the result changes.

        The preset's name, the machine, and knobs that only affect speed and safety are left out.
        """
        values = self.to_dict()
        del values["preset"], values["machine"]
        del values["train"]["eval_batch_size"], values["train"]["checkpoint_seconds"]
        if not values["augment"]["elastic"]:  # newer than some runs, whose digest must not change
            del values["augment"]["elastic"]
        return digest(values)


def sections(config: RunConfig) -> dict[str, Any]:
    """Section name -> section of ``config``."""
    return {f.name: getattr(config, f.name) for f in fields(config) if f.name != "preset"}
