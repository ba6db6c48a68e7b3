"""Every knob, once.

A knob is one dataclass field: its name, its type, its default, its limits and one sentence of help.
The command line's flags, the JSON of a run folder, the presets, the axes of a study and the table in
docs/knobs.md are all made from it (see knobs.py), so a name typed anywhere else is only ever a *use*.
Field names are unique over all sections, which is why flags and study axes need no prefix.

The configuration is frozen: it is checked when it is built, travels whole, and each part of the
program receives only its own section.
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
