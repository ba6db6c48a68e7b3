"""Files made to hang, crash or leave the folder: commands work or refuse in one line, in little time and memory."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.proof.context import KNOBS, Context, Figures, figures, reseal, shown
from benchmarks.proof.flips import TooLong, isolated
from benchmarks.serve_bombs import bombs, saved

SECONDS, MIB, ADDRESSES = 20.0, 1600, 12 << 30
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
MARKUP = "<img src=x onerror=alert(1)>"
PARTS = ("config.json", "data.json", "result.json", "model.safetensors", "environment.json", "history.jsonl")
HUGE = 8 << 30
SECRET = "elsewhere"  # a run that no study of a stranger may publish

Words = list[object]
Case = tuple[str, Callable[[Path], Words]]  # what it is, and what makes it in an empty folder and names the command


def replaced(path: Path) -> Path:
    """``path``, with nothing there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def fifo(path: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(replaced(path))


def device(path: Path) -> None:
    """A link to zeros without end."""
    replaced(path).symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    """A socket that nobody listens to."""
    replaced(path)
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have only 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path) -> None:
    """Eight GiB of nothing."""
    with replaced(path).open("wb") as file:
        file.truncate(HUGE)


def deep(path: Path) -> None:
    """JSON with two hundred thousand open brackets."""
    replaced(path).write_text("[" * 200_000)


def loop(path: Path) -> None:
    """A link to itself."""
    replaced(path).symlink_to(path.name)


def folder_there(path: Path) -> None:
    """A folder where a file should be."""
    replaced(path).mkdir()


def numbers(text: str) -> Callable[[Path], None]:
    """Every number in a JSON file replaced by ``text``."""

    def make(path: Path) -> None:
        path.write_text(re.sub(r"(?<=[ \[:])-?\d+(\.\d+)?(e-?\d+)?(?=[,\]\n}])", text, path.read_text()))

    make.__doc__ = f"{text[:8]} for each number"
    return make


def strings(text: str) -> Callable[[Path], None]:
    """Every value of a JSON file that is a string replaced by ``text``."""

    def make(path: Path) -> None:
        path.write_text(re.sub(r'(?<=: )"[^"]*"', lambda _: json.dumps(text), path.read_text()))

    make.__doc__ = f"{text[:4]!r}... for each string"
    return make


def named(make: Callable[[Path], None]) -> str:
    """What it makes, for a line."""
    text = (make.__doc__ or "").rstrip(".")
    return text[:1].lower() + text[1:]


def strings_but_digests(text: str) -> Callable[[Path], None]:
    """Every value that is a string, except digests and what must fit the machine; with digests that fit."""

    def make(path: Path) -> None:
        values = json.loads(path.read_text())
        changed = ("vitlab", "system", "python", "git_commit", "started_utc", "device_name", "torch")
        path.write_text(json.dumps(values | {name: f"{values.get(name)}{text}" for name in changed}))
        reseal(path.parent)

    make.__doc__ = "markup and escapes"
    return make


def classes_called(text: str) -> Callable[[Path], None]:
    """Classes with such names, with digests that fit."""

    def make(path: Path) -> None:
        values = json.loads(path.read_text())
        values["classes"] = [f"{text}{name}" for name in values["classes"]]
        path.write_text(json.dumps(values))
        reseal(path.parent)

    make.__doc__ = f"classes called {'markup and ' if MARKUP in text else ''}escapes"
    return make


ODD = (fifo, device, unix_socket, sparse, loop, folder_there)
TEXTS = (
    deep,
    numbers("9" * 5000),
    numbers("NaN"),
    numbers("-1"),
    numbers("1e999"),
    strings(ESCAPES),
    strings("\ud800"),
)


def run_cases(context: Context) -> list[Case]:
    """Run folders from a stranger."""
    cases: list[Case] = []

    def damaged(name: str, make: Callable[[Path], None], words: Words) -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            shutil.copytree(context.unbroken, here / "run")
            make(here / "run" / name)
            return [here / "run" if word == "RUN" else word for word in words]

        return build

    picture = context.folder / "picture.png"
    predict: Words = ["predict", "RUN", picture]
    for name in PARTS:
        reader: Words = list(predict) if name in PARTS[:4] else ["look", "RUN", "--quiet"]
        for make in (*ODD, *(TEXTS if name.endswith("json") else ())):
            cases.append((f"{named(make)} as {name}, {reader[0]}", damaged(name, make, reader)))
    for make in (fifo, device, sparse, loop):
        others: list[Words] = [["train", "--resume", "RUN", "--quiet"], ["evaluate", "RUN", "--quiet"]]
        for words in others:
            cases.append((f"{named(make)} as config.json, {words[0]}", damaged("config.json", make, words)))
    sealed = "with digests that fit"
    sealed_cases: list[tuple[str, Callable[[Path], None], Words]] = [
        ("environment.json", strings_but_digests(MARKUP + ESCAPES), ["look", "RUN", "--quiet"]),
        ("data.json", classes_called(ESCAPES), predict),
        ("data.json", classes_called(MARKUP + ESCAPES), ["look", "RUN", "--quiet"]),
    ]
    for name, change, words in sealed_cases:
        cases.append((f"{named(change)} in {name} {sealed}, {words[0]}", damaged(name, change, list(words))))
    return cases


def link_cases(context: Context) -> list[Case]:
    """Links that lead out of the folder, to the canary."""
    canary = context.folder / "canary"

    def out(base: Path, name: str, words: Words) -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            shutil.copytree(base, here / "run")
            replaced(here / "run" / name).symlink_to(canary)
            (here / "run" / "result.json").unlink(missing_ok=words[0] != "train")
            return [here / "run" if word == "RUN" else word for word in words]

        return build

    def parent(here: Path) -> Words:
        shutil.copytree(context.unbroken, here / "run")
        for name in ("report.html", "README.md", "model.safetensors.part"):
            (here / "run" / name).symlink_to(canary / "precious.png")
        return ["look", here / "run", "--quiet"]

    def huge_network(here: Path) -> Words:
        shutil.copytree(context.unbroken, here / "run")
        from vitlab import RunConfig

        values = json.loads((here / "run" / "config.json").read_text())
        values["model"]["embed_dim"], values["model"]["depth"] = 8190, 12
        (here / "run" / "config.json").write_text(json.dumps(values))
        result = json.loads((here / "run" / "result.json").read_text())
        result["config_digest"] = RunConfig.from_dict(values).digest()
        (here / "run" / "result.json").write_text(json.dumps(result))
        reseal(here / "run")
        return ["predict", here / "run", context.folder / "picture.png"]

    whole: Words = ["look", "RUN", "--quiet"]
    resume: Words = ["train", "--resume", "RUN", "--quiet"]
    return [
        (
            "pictures/ is a link out, look",
            lambda here: keep_result(out(context.unbroken, "pictures", whole), here, context),
        ),
        ("checkpoints/ is a link out, resume", out(context.unbroken, "checkpoints", resume)),
        ("report and card are links out, look", parent),
        ("a network of 10 billion weights with a right digest, predict", huge_network),
    ]


def keep_result(build: Callable[[Path], Words], here: Path, context: Context) -> Words:
    """As ``build``, with result.json put back."""
    words = build(here)
    shutil.copy(context.unbroken / "result.json", here / "run" / "result.json")
    return words


def training(data: Path) -> Words:
    """The words that train on ``data``."""
    at = KNOBS.index("digits")
    return ["train", *KNOBS[:at], data, *KNOBS[at + 1 :], "--epochs", "1", "--out", data.parent / "run"]


def small_folder(here: Path, names: tuple[str, ...] = ("a", "b")) -> Path:
    """A data folder with a few pictures in each class."""
    draw = np.random.default_rng(0)
    for name in names:
        (here / "data" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "data" / name / f"{number}.png")
    return here / "data"


def data_cases(context: Context) -> list[Case]:
    """Data sets that are not what they seem."""

    def archive(make: Callable[[Path], None]) -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            make(here / "data.npz")
            return training(here / "data.npz")

        return build

    def in_folder(make: Callable[[Path], None], name: str = "a/odd.png") -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            data = small_folder(here)
            make(data / name)
            return training(data)

        return build

    def objects(path: Path) -> None:
        """an array of Python objects"""
        labels = np.array([{"a": 1}] * 9, dtype=object)
        np.savez(path, x_train=labels, y_train=labels, x_test=labels, y_test=labels)

    def lying(path: Path) -> None:
        """an array that claims 10 TB"""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 100, 100)}
        )
        with zipfile.ZipFile(path, "w") as made:
            for name in ("x_train", "y_train", "x_test", "y_test"):
                made.writestr(f"{name}.npy", header.getvalue() + b"\0" * 1000)

    def bomb(path: Path) -> None:
        """5 GB claimed, a gigabyte of zeros in 1 MB"""
        header, shape = io.BytesIO(), (5_000_000, 32, 32)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
            with made.open("x_train.npy", "w", force_zip64=True) as file:
                file.write(header.getvalue())
                for _ in range(1000):
                    file.write(bytes(1_000_000))
            labels = io.BytesIO()
            np.save(labels, np.arange(5_000_000, dtype=np.int64) % 3)
            made.writestr("y_train.npy", labels.getvalue())

    def cut(path: Path) -> None:
        """a cut archive"""
        np.savez(path, x_train=np.zeros((99, 8, 8), np.uint8), y_train=np.arange(99) % 3)
        path.write_bytes(path.read_bytes()[:-700])

    def outside(path: Path) -> None:
        """a link to a file elsewhere"""
        path.symlink_to("/etc/passwd")

    def bombed(path: Path) -> None:
        """pictures that claim a billion pixels"""
        for number, data in enumerate(bombs()["refused"][:5]):
            path.with_name(f"bomb{number}.png").write_bytes(data)

    def folder_loop(path: Path) -> None:
        """a link to the folder above"""
        path.symlink_to("..", target_is_directory=True)

    def classes(*names: str) -> Callable[[Path], Words]:
        return lambda here: training(small_folder(here, names))

    def deep_folder(path: Path) -> None:
        """folders 60 deep"""
        (path.parent / "/".join("d" * 60)).mkdir(parents=True)

    cases: list[Case] = [(f"{named(make)} as data.npz", archive(make)) for make in (*ODD, objects, lying, cut)]
    if not context.quick:
        cases.append((f"{named(bomb)} as data.npz", archive(bomb)))
    some = (fifo, device, unix_socket, sparse, loop, outside, bombed, folder_loop, deep_folder)
    cases += [(f"{named(make)} among pictures", in_folder(make)) for make in some]
    cases += [(f"{named(make)} as a class", in_folder(make, "odd")) for make in (fifo, loop, folder_loop)]
    cases.append(("class names with escapes and markup", classes(ESCAPES.replace("/", ""), MARKUP, "a\nvitlab: fine")))
    cases.append(("class names that are not UTF-8", classes(os.fsdecode(b"\xff\xfe"), "b")))
    return cases


def picture_cases(context: Context) -> list[Case]:
    """Pictures and configurations that are not what they seem."""
    run = context.unbroken

    def picture(make: Callable[[Path], None]) -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            make(here / "picture.png")
            return ["predict", run, here / "picture.png"]

        return build

    def written(data: bytes) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            path.write_bytes(data)

        return make

    def frames(path: Path) -> None:
        """an animation of 500 frames"""
        first, *rest = (Image.new("L", (400, 400), number % 256) for number in range(500))
        first.save(path, "GIF", save_all=True, append_images=rest)

    def configuration(make: Callable[[Path], None]) -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            shutil.copy(run / "config.json", here / "config.json")
            make(here / "config.json")
            return ["train", "--config", here / "config.json", "--out", here / "run", "--quiet"]

        return build

    cases: list[Case] = [(f"{named(make)} as a picture", picture(make)) for make in (*ODD, frames)]
    for kind, files in bombs().items():
        cases += [(f"bomb {number} ({kind}) as a picture", picture(written(data))) for number, data in enumerate(files)]
    # Not a pipe: `--config <(...)` is one, and worth waiting for.
    cases += [(f"{named(make)} as --config", configuration(make)) for make in (*ODD[1:], *TEXTS)]
    return cases


def study_cases(context: Context) -> list[Case]:
    """A study from a stranger: rows that lead to a run elsewhere, names with escapes."""
    at = KNOBS.index("--depth")
    whole = context.fresh("study")
    knobs = [*KNOBS[:at], *KNOBS[at + 2 :], "--out", whole / "study", "--runs", whole / "runs"]
    end = context.run(["study", "--vary", "depth=1", "--seeds", "1", *knobs], seconds=120)
    if end.code:
        raise RuntimeError(f"the study failed: {end.last_line}")

    def changed(change: Callable[[str, str], str], *words: object) -> Callable[[Path], Words]:
        def build(here: Path) -> Words:
            shutil.copytree(whole, here, dirs_exist_ok=True)
            shutil.copytree(context.unbroken, here / SECRET)
            (run,) = (path.name for path in (here / "runs").iterdir())
            for name in ("rows.jsonl", "study.json"):
                path = here / "study" / name
                path.write_text(change(path.read_text(), run))
            places = {"STUDY": here / "study", "RUN": here / "runs" / run, "RUNS": here / "runs", "WEB": here / "web"}
            return [places.get(str(word), word) for word in words]

        return build

    def elsewhere(text: str, run: str) -> str:
        return text.replace(json.dumps(run), json.dumps(f"../{SECRET}"))

    def absolute(text: str, run: str) -> str:
        return text.replace(json.dumps(run), json.dumps(str(context.unbroken)))

    def escapes(text: str, run: str) -> str:
        return text.replace("depth=1", json.dumps(f"{ESCAPES}{MARKUP}")[1:-1]).replace("depth 1", "\\u001b[31m")

    web = ("export", "RUN", "--to", "web", "--study", "STUDY", "--runs", "RUNS", "--out", "WEB")
    return [
        ("a row that leads to a run elsewhere, export", changed(elsewhere, *web)),
        ("a row with the absolute path of a run, export", changed(absolute, *web)),
        ("a row that leads to a run elsewhere, look", changed(elsewhere, "look", "STUDY", "--runs", "RUNS", "--quiet")),
        ("names of cells with escapes, status", changed(escapes, "study", "--status", "STUDY")),
        ("names of cells with escapes, look", changed(escapes, "look", "STUDY", "--runs", "RUNS", "--quiet")),
    ]


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def plant_canary(context: Context) -> Path:
    """Files that no command may touch, with names that vitlab would overwrite or delete in its own folders."""
    canary = context.folder / "canary"
    canary.mkdir(exist_ok=True)
    for name in ("precious.png", "training.png", "patches.svg", "curves.svg", f"step-000000001-{'0' * 32}.safetensors"):
        (canary / name).write_text("precious")
    return canary


def try_case(context: Context, case: Case) -> str:
    """What is wrong with how one hostile file is answered, or nothing."""
    name, build = case
    here = context.fresh("hostile")
    here.mkdir()
    canary = context.folder / "canary"
    before, secret = tree(canary), (context.unbroken / "model.safetensors").read_bytes()
    try:
        words = build(here)
    except Exception as error:
        return f"broken: {name} could not be made, {error!r}"
    patience = SECONDS * (4 if words[0] == "look" else 1)  # a whole report takes time even when all is well
    end = context.run(words, seconds=patience, memory=ADDRESSES, cwd=here)
    wrong = ""
    if end.wrong:
        wrong = f"{end.wrong.lower()}: {name}; {shown(end)}"
    elif end.mib > MIB:
        wrong = f"memory: {name}; {end.mib:.0f} MiB"
    elif end.code and not end.is_one_line:
        wrong = f"not one line: {name}; exit {end.code}, {shown(end)}"
    elif CONTROL.search(end.out + end.err):
        wrong = f"control characters: {name}, in what is printed"
    elif any(path.read_bytes() == secret for path in here.glob("web/**/*.safetensors")):
        wrong = f"outside: {name}; the weights of a run elsewhere are published"
    elif any(CONTROL.search(text) or MARKUP in text for text in cards(here)):
        wrong = f"markup: {name}, in a file that is made"
    if tree(canary) != before:
        shutil.rmtree(canary)
        plant_canary(context)
        wrong = f"outside: {name}; files outside of the folder were changed"
    shutil.rmtree(here, ignore_errors=True)
    return wrong


def cards(here: Path) -> list[str]:
    """The texts that `look` has made."""
    found = [*here.glob("*/README.md"), *here.glob("*/report.html")]
    return [path.read_text(errors="replace") for path in found if not path.is_symlink()]


def damaged_pictures(context: Context) -> list[str]:
    """Valid pictures, randomly changed or cut, given to a classifier; what is wrong with each answer."""
    draw = context.draw("pictures")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8))
    valid = [saved(noise, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")]
    valid += [saved(noise.convert(mode), "PNG") for mode in ("L", "1", "P", "RGBA", "LA")]
    count = context.size(1500, 60)

    def work() -> list[str]:
        from vitlab import Classifier, VitlabError

        def alarm(number: int, frame: object) -> None:
            raise TooLong

        classifier, wrong = Classifier.load(context.unbroken), []
        signal.signal(signal.SIGALRM, alarm)
        for number in range(count):
            data = bytearray(draw.choice(valid))
            for _ in range(draw.randint(1, 8)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            if number % 3 == 0:
                del data[draw.randrange(len(data)) :]
            signal.alarm(int(SECONDS))
            try:
                classifier(bytes(data))
                wrong.append("")
            except VitlabError as error:
                text = str(error)
                wrong.append("control characters: in an error" if CONTROL.search(text) or "\n" in text else "")
            except Exception as error:
                wrong.append(
                    f"{'hang' if isinstance(error, TooLong) else 'traceback'}: picture {number}, {error!r}"[:200]
                )
            finally:
                signal.alarm(0)
        return wrong

    found: Any = isolated(work, context.fresh("note"))
    return list(found)


def attack(context: Context) -> Figures:
    """All cases, one at a time each twenty seconds at most."""
    plant_canary(context)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(
        context.folder / "picture.png"
    )
    links = link_cases(context) + (study_cases(context) if not context.quick else [])
    others = run_cases(context) + data_cases(context) + picture_cases(context)
    if context.quick:
        others = others[:: len(others) // 8]
    failures = [try_case(context, case) for case in links]  # alone, because they share the canary
    failures += context.each(lambda case: try_case(context, case), others)
    began = time.monotonic()
    pictures = damaged_pictures(context)
    more = {"pictures": len(pictures), "picture_seconds": round(time.monotonic() - began, 1)}
    return figures([*failures, *pictures], len(failures) + len(pictures), cases=len(failures), **more)
