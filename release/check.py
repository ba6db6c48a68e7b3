"""Build the sdist and the wheel into dist/, inspect both, install the wheel into a new environment, and use it there.

    python -m release.check             the new environment borrows the packages of this one: in CI
    python -m release.check --fresh     it gets its packages from the package index, as a user's does: before a release

The first line that fails names what is wrong. Nothing of the checkout is used after the installation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
# Whatever the file lists say: without one of these, a part of vitlab would be dead.
NEEDED = (
    "vitlab/py.typed", "vitlab/data/catalogue.toml", "vitlab/look/templates/report.html.j2", "vitlab/page/index.html",
    "vitlab/page/main.js", "vitlab/page/style.css", "vitlab/native/csrc/blocks.c", "vitlab/native/csrc/vec.h",
    "vitlab/export/csource/vit.c",
    "vitlab/zoo/mnist/model.safetensors",
)  # fmt: skip
ABOUT = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
UNWANTED = ("pytest", "mypy", "ruff", "hypothesis", "onnx", "ray", "submitit", "optuna", "tensorboard", "mlflow")
RELATIVE = re.compile(r"\]\((?!https?:)[^)]*\)|<img [^>]*src=\"(?!https?:)")
INSIDE = """
import importlib.util, json, sys
from pathlib import Path

import vitlab
from PIL import Image

Image.fromarray(vitlab.load_dataset("digits").test.images[0, :, :, 0]).resize((28, 28)).save("digit.png")
found = [name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name)]
print(json.dumps({"version": vitlab.__version__, "file": vitlab.__file__, "found": found}))
"""


def main() -> None:
    """Everything in turn, with times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="install all packages from the package index")
    parser.add_argument("--extra-index-url", metavar="URL", default="", help="where else pip looks, such as for torch")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitlab-release-") as name:
        place = Path(name)
        sdist, wheel = timed("built", build)
        inspect(sdist, wheel)
        python = timed("installed", lambda: install(wheel, place / "venv", arguments.fresh, arguments.extra_index_url))
        timed("used: train, evaluate, predict, look, check, serve", lambda: use(python, place, arguments.fresh))


def timed(what: str, act: Callable[[], Any]) -> Any:
    """The result of ``act``, and a line that says how long it took."""
    start = time.monotonic()
    result = act()
    print(f"{what} ({time.monotonic() - start:.1f} s)", flush=True)
    return result


def require(fact: object, words: str) -> None:
    """End with one line unless ``fact`` holds."""
    if not fact:
        raise SystemExit(f"release: {words}")


def run(*words: str | Path, cwd: Path = ROOT, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A command that must end with this exit code; its environment knows nothing of the checkout."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VITLAB_"))}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=own, capture_output=True, text=True, check=False)
    require(done.returncode == code, f"exit code {done.returncode}: {words}\n{done.stdout}{done.stderr}")
    return done


def build() -> tuple[Path, Path]:
    """dist/ with the sdist, and the wheel that is built from the sdist alone."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST)
    [sdist], [wheel] = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def inspect(sdist: Path, wheel: Path) -> None:
    """Compare the file lists with the repository's, and read the metadata as a package index does."""
    tracked = set(run("git", "ls-files").stdout.splitlines())
    require(tracked, "this is no git checkout, so what belongs into the files is not known")
    with tarfile.open(sdist) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames() if "/" in name}
    same(packed - {"PKG-INFO"}, tracked, sdist)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [folder] = {name.split("/")[0] for name in names if ".dist-info/" in name}
        about = message_from_string(archive.read(f"{folder}/METADATA").decode())
        size = sum(one.file_size for one in archive.infolist())
    code = {name.removeprefix("src/") for name in tracked if name.startswith("src/vitlab/")}
    same(names - {f"{folder}/{name}" for name in ABOUT}, code, wheel)
    require(set(NEEDED) <= names, f"{wheel.name} lacks {sorted(set(NEEDED) - names)}")
    kinds: dict[str, int] = {}
    for name in sorted(code):
        kinds[name.rpartition(".")[2]] = kinds.get(name.rpartition(".")[2], 0) + 1
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda one: -one[1]))
    print(f"{wheel.name}: {len(names)} files, {size / 1e6:.1f} MB, {packed_size(wheel)} packed: {by_kind}")
    print(f"{sdist.name}: {len(packed)} files, {packed_size(sdist)} packed: the repository and PKG-INFO")
    check_metadata(about)


def packed_size(path: Path) -> str:
    """The size of a file, for people."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def same(found: set[str], wanted: set[str], path: Path) -> None:
    """Require two equal lists of files."""
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    require(not missing, f"{path.name} lacks {missing[:5]} of {len(missing)}")
    require(not extra, f"{path.name} holds files that git does not know: {extra[:5]} of {len(extra)}; commit or delete")


def check_metadata(about: Message) -> None:
    """What an index shows: the version, and a README without links that lead nowhere there."""
    readme = str(about.get_payload())
    require(about["Description-Content-Type"] == "text/markdown" and len(readme) > 1000, "the README is missing")
    require(not RELATIVE.search(readme), f"the README links into the repository: {RELATIVE.findall(readme)[:3]}")
    version = re.escape(str(about["Version"]))
    for name in ("CITATION.cff", "CHANGELOG.md"):
        lines = rf"(?m)^(version: [\"']?{version}[\"']?|## ({version}|Unreleased)\b.*)$"
        require(re.search(lines, (ROOT / name).read_text()), f"{name} does not name version {about['Version']}")


def install(wheel: Path, venv: Path, fresh: bool, index: str) -> Path:
    """A new environment with the wheel; its Python."""
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    if fresh:
        run(*pip, *(("--extra-index-url", index) if index else ()), wheel, cwd=venv)
        return python
    run(*pip, "--no-deps", "--no-index", wheel, cwd=venv)
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    # A .pth file adds the folder but not the .pth files inside, and so not the checkout that is installed there.
    [site] = (venv / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(paths) + "\n")
    return python


def use(python: Path, place: Path, fresh: bool) -> None:
    """What somebody does first: each command must succeed, in a folder of its own."""
    work, vitlab = place / "work", python.with_name("vitlab")
    work.mkdir()
    facts = json.loads(run(python, "-c", INSIDE, json.dumps(UNWANTED), cwd=work).stdout)
    require(Path(facts["file"]).is_relative_to(place), f"vitlab was imported from {facts['file']}")
    require(not (fresh and facts["found"]), f"development tools are installed: {facts['found']}")
    version = run(vitlab, "--version", cwd=work).stdout
    require(version == f"vitlab {facts['version']}\n", f"vitlab --version says {version!r}")
    run(vitlab, "predict", "mnist", "digit.png", cwd=work)
    knobs = ("--preset", "fast", "--data", "digits", "--epochs", "3")
    result = json.loads(run(vitlab, "train", *knobs, "--out", "first", "--json", cwd=work).stdout)
    require(result["status"] == "done" and result["test_top1"] > 0.7, f"the run did not learn: {result}")
    measured = json.loads(run(vitlab, "evaluate", "first", "--json", cwd=work).stdout)
    require(measured["top1"] == result["test_top1"], f"evaluate says {measured}")
    run(vitlab, "predict", "first", "digit.png", cwd=work)
    run(vitlab, "look", "first", cwd=work)
    require((work / "first" / "report.html").stat().st_size > 100_000, "the report is empty")
    run(vitlab, "check", "first", cwd=work)
    refused = run(vitlab, "train", *knobs, "--log", "wandb", cwd=work, code=2).stderr
    require("pip install 'wandb" in refused, f"the advice for a missing package is {refused!r}")
    serve(vitlab, work)


def serve(vitlab: Path, work: Path) -> None:
    """The page, and an answer for a picture; then SIGTERM, exit code 0."""
    command = [str(vitlab), "serve", "first", "--port", "0"]
    server = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        lines = iter(server.stderr)
        url = next((found[0] for line in lines if (found := re.search(r"http://[\w.:]+", line))), "")
        require(url, "vitlab serve names no address")
        with urllib.request.urlopen(url, timeout=30) as page:
            require(b"<title>" in page.read(), f"{url} is no page")
        picture = urllib.request.Request(
            f"{url}/v1/predict", (work / "digit.png").read_bytes(), {"Content-Type": "image/png"}
        )
        with urllib.request.urlopen(picture, timeout=30) as answer:
            require(json.load(answer), "no answer")
        server.send_signal(signal.SIGTERM)
        require(server.wait(30) == 0, f"vitlab serve ended with {server.returncode}")
    finally:
        server.kill()


if __name__ == "__main__":
    main()
