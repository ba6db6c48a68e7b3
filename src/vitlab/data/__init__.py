"""Data sets: cards, where their bytes come from, and how they become arrays.

NumPy only: PyTorch is used in batches.py, which is not imported here, and the network in download.py, which is imported
when something must be downloaded.
"""

from vitlab.data.cards import CATALOGUE, Card, DataFile, Dataset, Reading
from vitlab.data.inspection import check_data, inspect
from vitlab.data.load import catalogue_digest, check, fetch, load_dataset
from vitlab.data.memory import in_memory
from vitlab.data.splits import Split, cut_validation, limit

__all__ = [
    "CATALOGUE",
    "Card",
    "DataFile",
    "Dataset",
    "Reading",
    "Split",
    "catalogue_digest",
    "check",
    "check_data",
    "cut_validation",
    "fetch",
    "in_memory",
    "inspect",
    "limit",
    "load_dataset",
]
