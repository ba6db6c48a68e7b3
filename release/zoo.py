"""Train the networks that come with vitlab, and write them with their cards into src/vitlab/zoo.

    python -m release.zoo               all of them, in twenty minutes on two cores
    python -m release.zoo mnist-fast    only some

CIFAR-10 may also be a file, `--cifar10 FILE.npz`; the network's files then name its place. The checkout must have no
uncommitted changes, because environment.json names the commit. The same commit, processor, threads and versions give
the same weights. Each folder is what `vitlab train` wrote, without checkpoints; no file is changed, so its digests
hold. The page shows how a network learned if its epochs were kept, which takes 0.3 to 3.6 MB; those of `cifar` would
take 17.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import vitlab
from docs import make_zoo
from vitlab import files
from vitlab.runs import zoo
from vitlab.runs.check import check_run
from vitlab.runs.session import git_commit

# Name -> preset and data set, and whether to keep its epochs.
RECIPES = {
    "mnist": ("small", "mnist", True),
    "mnist-fast": ("fast", "mnist", True),
    "fashion": ("fashion", "fashion-mnist", True),
    "cifar": ("colour", "cifar10", False),
}


def main() -> None:
    """Train, copy, check and describe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"{', '.join(RECIPES)} [all of them]")
    parser.add_argument("--cifar10", metavar="FILE", default="cifar10", help="CIFAR-10 as an .npz file")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(RECIPES):
        raise SystemExit(f"zoo: there is no recipe for {', '.join(sorted(unknown))}")
    if (git_commit() or "+").endswith("+"):
        raise SystemExit("zoo: commit your changes first; the networks name the commit that made them")
    with tempfile.TemporaryDirectory(prefix="vitlab-zoo-") as place:
        # All of them before the first is published: that changes the checkout, which the next would note.
        made = {name: train(name, Path(place), arguments.cifar10) for name in arguments.names or RECIPES}
        for name, run in made.items():
            publish(run, name)
    make_zoo.write()


def train(name: str, place: Path, cifar10: str) -> Path:
    """The folder of a new run of this recipe, in ``place``."""
    preset, data, keep = RECIPES[name]
    run = vitlab.train(preset, data=cifar10 if data == "cifar10" else data, keep_epochs=keep, out=place / name)
    print(f"{name}: {run.result!r}, commit {run.folder.environment()['git_commit']}", flush=True)
    return run.path


def publish(run: Path, name: str) -> None:
    """Copy a run's files into the package; SystemExit if the copy is not whole."""
    target = zoo.ZOO / name
    shutil.rmtree(target / zoo.EPOCHS, ignore_errors=True)  # of another training, maybe with more of them
    files.make_folder(target / zoo.EPOCHS if files.exists(run / zoo.EPOCHS) else target)
    for file in zoo.files_of(run):
        shutil.copyfile(run / file, target / file)
    if bad := [one for one in check_run(target) if one.state != "ok"]:
        raise SystemExit(f"zoo: {target} is not whole: {bad}")


if __name__ == "__main__":
    main()
