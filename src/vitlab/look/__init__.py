"""`vitlab look`: figures of a run, a data set or a study with sentences in its numbers, as a report and a model card.

One file per topic holds its numbers, its figures and its sentences, in this order: images (the data, patches,
augmentation), curves (training), mistakes (confusion, calibration, classes), attention, inside (filters, positions,
logit lens), robustness, study. They share style (colours, mosaics), run (a run opened with its answers) and report
(the parts of a report and their HTML). summary makes the head of a report and the model card, write the files. Only
this package imports matplotlib, and never pyplot: no window, no global figure.

Names in the topic files: `draw_...` makes a figure from arrays, `..._picture` adds title, alternative text and
sentences, `..._sentence` makes one of these; everything else computes.
"""

import logging

from vitlab.errors import ConfigError

_log = logging.getLogger("matplotlib")
_level = _log.level
_log.setLevel(logging.ERROR)  # our figures use no setting of a matplotlibrc, so its mistakes do not matter
try:
    import matplotlib as _matplotlib  # noqa: F401
except (OSError, UnicodeError) as _error:
    raise ConfigError(
        f"matplotlib cannot read its settings file matplotlibrc, here or in your configuration folder ({_error}); "
        "repair it or move it away"
    ) from None
finally:
    _log.setLevel(_level)
