"""The configuration of a run: all six sections, to and from JSON."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from vitlab.config.hints import knob_hint
from vitlab.config.knobs import (
    ALL_KNOBS,
    NOT_INERT,
    check_limits,
    digest,
    flat_fields,
    from_dict,
    inner_type,
    knob_type,
    parse,
)
from vitlab.config.model import ModelConfig
from vitlab.config.sections import AugmentConfig, DataConfig, MachineConfig, OptimConfig, TrainConfig
from vitlab.errors import ConfigError

AUTO = "auto"  # as image_size, before a run begins: the size that fits the images (fitting.py)
SPEED_ONLY = ("eval_batch_size", "checkpoint_seconds", "keep_epochs")  # knobs of a run that change no result


@dataclass(frozen=True, repr=False)
class RunConfig:
    """Every setting ("knob") of a run, in six sections: data, augment (augmentation), model, optim (optimizer and
    schedule), train, machine. Frozen: `with_knobs` makes a changed copy. ConfigError for a value or a combination that
    cannot work, with the arithmetic that shows why.

    ``preset`` is the name of the preset it came from. `values` lists the knobs with their values, docs/reference/
    knobs.md explains them.

    >>> config = vitlab.preset_config("small").with_knobs(patch_size=7, epochs=3)
    >>> config
    <RunConfig small: patch_size=7, epochs=3>
    >>> config.model.patch_size, config.optim.lr, len(config.values()) > 50
    (7, 0.005, True)
    """

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
        if self.train.class_weight == "balanced" and self.train.sampling == "balanced":
            raise ConfigError(
                "class_weight balanced and sampling balanced would count rare classes twice; choose one of them"
            )

    def __repr__(self) -> str:
        from vitlab.config.presets import PRESETS  # they are made of this class

        base = PRESETS[self.preset].config if self.preset in PRESETS else RunConfig()
        own, others = self.values(), base.values()
        changed = [f"{name}={_short(value)}" for name, value in own.items() if value != others[name]]
        return f"<RunConfig {self.preset or 'custom'}{': ' * bool(changed)}{', '.join(changed)}>"

    def with_knobs(self, **values: Any) -> RunConfig:
        """A copy with some knobs changed, for example ``patch_size=4``; ConfigError for an unknown name."""
        refuse_unknown(values)
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            changed.setdefault(flat_fields(RunConfig)[name][0], {})[name] = value
        parts = {section: replace(getattr(self, section), **new) for section, new in changed.items()}
        return replace(self, **parts)

    def to_dict(self) -> dict[str, Any]:
        """All values as nested dicts of JSON values (tuples become lists)."""
        return typing.cast(dict[str, Any], json.loads(json.dumps(asdict(self))))

    def values(self) -> dict[str, Any]:
        """The value of each knob by its name."""
        return {name: value for section in sections(self).values() for name, value in vars(section).items()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RunConfig:
        """The inverse of `to_dict`; ConfigError for unknown names and wrong types."""
        return from_dict(RunConfig, values)

    def digest(self) -> str:
        """Twelve hexadecimal digits that change whenever anything that affects the result changes.

        The preset's name, the machine, knobs for speed and safety, and knobs at their inert value are left out; so is
        the place of the weights to start from, once their SHA-256 says which they are.
        """
        values, own = self.to_dict(), self.values()
        del values["preset"], values["machine"]
        for name, (section, field_) in flat_fields(RunConfig).items():
            inert = field_.metadata.get("inert", NOT_INERT)
            if section in values and (name in SPEED_ONLY or own[name] == inert):
                del values[section][name]
        if self.train.init_sha256 is not None:
            values["train"].pop("init_from", None)
        return digest(values)

    def changed_knobs(self, other: RunConfig) -> dict[str, Any]:
        """The knobs that shape the result and differ from those of ``other``, except for the seed."""
        ignored, others = ("seed", *SPEED_ONLY, *vars(self.machine)), other.values()
        return {name: value for name, value in self.values().items() if name not in ignored and value != others[name]}


def refuse_unknown(names: Iterable[str]) -> None:
    """ConfigError for a name that no knob has."""
    for name in names:
        if name not in flat_fields(RunConfig):
            hint = knob_hint(name, flat_fields(RunConfig))
            raise ConfigError(f"there is no knob {name!r}{hint}; {ALL_KNOBS}")


def _short(value: Any) -> str:
    """3 for 3.0, otherwise as Python writes it."""
    return f"{value:g}" if isinstance(value, float) else repr(value)


def sections(config: RunConfig) -> dict[str, Any]:
    """Section name -> section of ``config``."""
    return {f.name: getattr(config, f.name) for f in fields(config) if f.name != "preset"}


# --- Knobs from text: the value of a flag, "name=value", or the axis of a study


def is_list(name: str) -> bool:
    """Whether the knob takes several values."""
    return typing.get_origin(inner_type(knob_type(RunConfig, name))[0]) is tuple


def read_value(name: str, text: Any) -> Any:
    """A knob's value from a word, a list of words, or a switch that is already a bool; ConfigError if it is invalid.
    The image_size may also be AUTO, which `fitting.fitted` makes a number."""
    kind = knob_type(RunConfig, name)
    if (name, text) == ("image_size", AUTO):
        return AUTO
    if isinstance(text, list):
        words = [] if text in (["none"], [""]) else text
        return tuple(parse(name, kind, word) for word in words)
    if isinstance(text, str) and "," in text and inner_type(kind)[0] in (int, float):
        raise ConfigError(
            f"{name} takes one number, not {text!r}; `vitlab study --vary {name}={text}` compares several"
        )
    return text if isinstance(text, bool) else parse(name, kind, text)


def knob_name(word: str, phrase: str) -> str:
    """The knob called ``word``, written with - or _. If there is none, ConfigError says ``phrase``."""
    name = word.replace("-", "_")
    if name not in flat_fields(RunConfig):
        raise ConfigError(f"{phrase}{knob_hint(name, flat_fields(RunConfig))}")
    return name
