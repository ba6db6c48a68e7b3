"""Torch, imported only by commands that need it, when they need it."""

from __future__ import annotations

import gc
import sys


def load_torch() -> None:
    """Import torch without looking for garbage meanwhile, and never look again at what it has made: an import makes
    hundreds of thousands of objects that stay, and looking at them takes up to a fifth of the time of `vitlab
    predict`. Nothing happens if torch is there already."""
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
