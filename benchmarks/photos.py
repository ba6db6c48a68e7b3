"""Reading photos: seconds and peak memory, of a folder that is made first and deleted afterwards.

    python -m benchmarks.photos [--quick]

8,000 photos of 500 x 375 and 500 of 4,032 x 3,024, JPEG, in two classes; --quick makes a fiftieth of them. Each folder
is looked at and read by a new process, as `vitlab train` does, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SETS = ((8000, 375, 500), (500, 3024, 4032))
QUICK = 50  # times fewer
DIFFERENT = 20  # photos that are encoded; the others are copies, since encoding takes longest
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
    """Smooth colours with some noise, like a photo's."""
    random, encoded = np.random.default_rng(0), []
    for _ in range(min(DIFFERENT, count)):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        noise = random.integers(-12, 13, (height, width, 1), dtype=np.int16)
        path = folder / "one.jpg"
        Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(path, quality=90)
        encoded.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        own = folder / "ab"[number % 2]
        own.mkdir(exist_ok=True)
        (own / f"{number}.jpg").write_bytes(encoded[number % len(encoded)])


def measure(count: int, height: int, width: int) -> str:
    """A line on reading ``count`` photos."""
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), count, height, width)
        load = os.getloadavg()[0]
        done = subprocess.run([sys.executable, "-c", READ, folder], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    rate = count / (found["look"] + found["read"])
    return (
        f"{count:,} photos of {width:,} x {height:,}: sizes and colour in {found['look']:.1f} s, read in "
        f"{found['read']:.1f} s ({rate:.0f} photos/s); the network sees {found['side']} x {found['side']}; kept as "
        f"{' x '.join(map(str, found['shape']))}; peak memory {found['peak'] / 2**20:.0f} MiB; load before {load:.1f}"
    )


def main() -> int:
    """Measure both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    for count, height, width in SETS:
        print(measure(count // QUICK if arguments.quick else count, height, width), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
