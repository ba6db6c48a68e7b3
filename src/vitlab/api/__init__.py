"""vitlab in Python, for scripts and notebooks: what the command line does, with objects instead of files.

`run` trains a network and opens one (`train`, `load`, `Run`), `attention` shows where it looks, `studies` compares
settings (`study`, `compare`, `StudyResult`), `given` says what may be passed as data and as knobs.
"""

from vitlab.api.attention import Attention
from vitlab.api.run import Run, load, train
from vitlab.api.studies import StudyResult, compare, study

__all__ = ["Attention", "Run", "StudyResult", "compare", "load", "study", "train"]
