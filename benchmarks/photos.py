"""Photos: seconds and peak memory of reading a folder of them and of training on it.

    python -m benchmarks.photos --out benchmarks/results/photos-NAME.json
    python -m benchmarks.photos --show benchmarks/results/photos-NAME.json

8,000 photos of 500 x 375 and 500 of 4,032 x 3,024, JPEG, in two classes that differ in colour; --quick makes a fiftieth
of them. Each folder is looked at and read by a new process, as `vitlab train` does, and then trained on by another one,
with the network that vitlab picks; both are asked for their peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.files import read_json
from vitlab.machine import choose_machine, environment
from vitlab.runs.session import origin

SETS = ((8000, 375, 500), (500, 3024, 4032))
QUICK = 50  # times fewer
DIFFERENT = 20  # photos of a class that are encoded; the others are copies, since encoding takes longest
REDDER = 12  # levels of 255 by which the second class is
READ = """
import json, resource, sys, time
from vitlab.config.fitting import fitted
from vitlab.data import load_dataset
from vitlab.data.glance import glance
start = time.monotonic()
side = fitted(None, {}, glance(sys.argv[1]))[0].model.image_size
looked = time.monotonic()
images = load_dataset(sys.argv[1], side=side).train.images
print(json.dumps({
    "side": side, "shape": images.shape, "look": looked - start, "read": time.monotonic() - looked,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


def make_photos(folder: Path, count: int, height: int, width: int) -> None:
    """Smooth colours with some noise, like a photo's, in two classes."""
    random = np.random.default_rng(0)
    for label, added in (("a", 0), ("b", REDDER)):
        own, encoded = folder / label, []
        own.mkdir()
        for _ in range(min(DIFFERENT, count)):
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            photo = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
            photo += random.integers(-12, 13, (height, width, 1), dtype=np.int16)
            photo[..., 0] += added
            path = folder / "one.jpg"
            Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(path, quality=90)
            encoded.append(path.read_bytes())
            path.unlink()
        for number in range(count // 2):
            (own / f"{number}.jpg").write_bytes(encoded[number % len(encoded)])


def read(folder: Path) -> dict[str, Any]:
    """Look at the photos and read them."""
    done = subprocess.run([sys.executable, "-c", READ, folder], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def train(folder: Path, run: Path, epochs: float) -> dict[str, Any]:
    """`vitlab train` from its start to its end."""
    words = ["train", "--data", str(folder), "--out", str(run), "--epochs", str(epochs), "--quiet"]
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "vitlab", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"vitlab {' '.join(words)} ended with {process.returncode}")
    seconds, result = time.monotonic() - start, read_json(run / "result.json")
    kept = {name: result[name] for name in ("preset", "epochs", "train_seconds", "images_per_second", "val_top1")}
    return kept | {"seconds": seconds, "peak": usage.ru_maxrss * 1024}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both folders."""
    machine, rows = choose_machine(MachineConfig(threads=arguments.threads)), []
    for whole, height, width in SETS:
        count = whole // QUICK if arguments.quick else whole
        with tempfile.TemporaryDirectory() as place:
            photos = Path(place) / "photos"
            photos.mkdir()
            # In another process: a new one inherits the peak memory of the one that starts it.
            maker = get_context("spawn").Process(target=make_photos, args=(photos, count, height, width))
            maker.start()
            maker.join()
            about = {"count": count, "height": height, "width": width}
            rows.append(about | {"read": read(photos), "train": train(photos, Path(place) / "run", arguments.epochs)})
    return {"environment": environment(machine) | origin(), "rows": rows}


def report(measured: dict[str, Any]) -> str:
    """A table of reading and training."""
    rows, environ = [], measured["environment"]
    for row in measured["rows"]:
        taken, trained = row["read"], row["train"]
        seconds = taken["look"] + taken["read"]
        rows.append([
            f"{row['count']:,} of {row['width']:,} x {row['height']:,}",
            f"{seconds:.1f} ({row['count'] / seconds:,.0f})",
            f"{taken['peak'] / 2**20:,.0f}",
            f"{trained['seconds']:.1f}",
            f"{trained['peak'] / 2**20:,.0f}",
        ])  # fmt: skip
    head = ["photos", "seconds to read (photos/s)", "most memory, MiB", "seconds to train", "most memory, MiB"]
    first, tops = measured["rows"][0], [100 * row["train"]["val_top1"] for row in measured["rows"]]
    side = first["read"]["side"]
    trained = first["train"]
    said = (
        f"Read: sizes, colour and pixels, in a new process. Trained: `vitlab train --epochs {trained['epochs']:g}` "
        f"from start to end, which reads them again; it picked `{trained['preset']}` at {side} x {side}, and got "
        f"{tops[0]:.1f} % and {tops[1]:.1f} % of the validation images right. {environ['device_name']}, "
        f"{environ['threads']} threads, torch {environ['torch']}, {environ['started_utc'][:10]}."
    )
    return f"{markdown(head, rows)}\n\n{said}"


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("--epochs", type=float, default=3.0, help="of training [3]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
