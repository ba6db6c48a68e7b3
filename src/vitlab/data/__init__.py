"""Data sets: cards, where their bytes come from, and how they become arrays.

NumPy only: PyTorch is used in batches.py, which is not imported here, and the network in download.py, which is imported
when something must be downloaded.
"""

from vitlab.data.cards import CATALOGUE, Card, DataFile, Dataset, Reading
from vitlab.data.load import check, fetch, load_dataset
from vitlab.data.splits import Split, cut_validation, limit

__all__ = [
    "CATALOGUE",
    "Card",
    "DataFile",
    "Dataset",
    "Reading",
    "Split",
    "check",
    "cut_validation",
    "fetch",
    "limit",
    "load_dataset",
]
