"""Which images a study uses: the digest of each data set, which belongs to the identity of a run.

The name of a run folder is a digest of the configuration, which names the data only by a path. So other images may lie
at the same path, and the same images at another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePath

from vitlab.config import RunConfig
from vitlab.data import CATALOGUE, Dataset, catalogue_digest, load_dataset
from vitlab.errors import DataError, RunError
from vitlab.runs.folder import RunFolder

SIDE = 28  # pixels: only digests and labels count here, and small images take little memory; if no run says its own
OWN = "its own"  # validation images that a data set brings along, instead of some that are cut off


@dataclass
class Images:
    """The data sets of a study as they are now. Each is read once, when it is first needed."""

    digests: dict[str, str | None] = field(default_factory=dict)
    here: set[str] = field(default_factory=set)  # those that this machine has
    with_validation: set[str] = field(default_factory=set)  # data sets that bring their own validation images
    # Those that the runs see: what does not fit into memory is then decoded once, into the cache that they use too.
    sides: dict[str, int] = field(default_factory=dict)

    def load(self, data: str) -> Dataset:
        """Read the data set now; DataError if that fails."""
        dataset = self._read(data)
        self.digests[data] = dataset.digest
        self.here.add(data)
        if dataset.val is not None:
            self.with_validation.add(data)
        return dataset

    def digest(self, data: str) -> str | None:
        """The digest of the data set, None if it is not on this machine."""
        if data in CATALOGUE:
            return catalogue_digest(data)
        if data not in self.digests:
            try:
                self.load(data)
            except DataError:  # a cluster may have it
                self.digests[data] = None
        return self.digests[data]

    def check_unchanged(self, data: str) -> None:
        """DataError if the images on this machine are no longer those that were read first, or cannot be read."""
        if data in self.here and self._read(data).digest != self.digests[data]:
            advice = "run the same command again, which trains every setting on the images as they are now"
            raise DataError(f"{data} has changed while the study ran; {advice}")

    def _read(self, data: str) -> Dataset:
        return load_dataset(data, side=self.sides.get(data, SIDE))

    def validation(self, config: RunConfig) -> str | None:
        """Which images a run with ``config`` validates on."""
        return OWN if config.data.data in self.with_validation else validation_cut(config)


def validation_cut(config: RunConfig) -> str | None:
    """Which of the training images ``config`` keeps for validation, in words: the last 10 %."""
    if config.data.val_fraction == 0:
        return None
    return f"{'the last' if config.data.val_split == 'last' else 'a stratified'} {100 * config.data.val_fraction:g} %"


def short_name(data: str) -> str:
    """The name of a data set; of a user's own only the last part of its path, since its place is private."""
    return data if data in CATALOGUE else PurePath(data).name or data


def digest_in(folder: Path) -> str | None:
    """The digest of the images that the run in ``folder`` began with; None if it does not say."""
    try:
        return str(RunFolder(folder).data()["sha256"]) if (folder / "data.json").is_file() else None
    except RunError:
        return None
