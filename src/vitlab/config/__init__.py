"""Every knob, once.

A knob is one dataclass field: name, type, default, limits and help text. The command line's flags, the JSON of a run
folder, the presets, the axes of a study and the tables in docs/reference/knobs.md are all generated from it
(see knobs.py).
Field names are unique across the sections, so flags and study axes need no prefix.

The configuration is frozen and is checked when it is built. Each part of the program receives only its own section.
"""

from vitlab.config.model import ModelConfig, cnn_side
from vitlab.config.run import RunConfig, sections
from vitlab.config.sections import AugmentConfig, DataConfig, MachineConfig, OptimConfig, TrainConfig

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "MachineConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "TrainConfig",
    "cnn_side",
    "sections",
]
