"""A single flipped bit in a file of a run folder: it is refused in one line, or changes nothing that anybody sees."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.proof.context import Context, Figures, figures, shown, trace

WHOLE = ("data.json", "result.json")  # every bit of these
WORDS = {"wrong": "silently wrong", "traceback": "traceback", "hang": "hang"}  # the classes that are failures
MEMORY = 6 << 30


class TooLong(Exception):
    """An answer took longer than 20 seconds."""


def classify(answer: Callable[[], Any], undamaged: Any, refusals: type[Exception] | tuple[type[Exception], ...]) -> str:
    """How a damaged folder is answered: refused, unchanged, wrong, traceback or hang."""
    try:
        given = answer()
    except refusals as error:
        return "refused" if "\n" not in str(error) else "traceback"
    except TooLong:
        return "hang"
    except Exception:
        return "traceback"
    return "unchanged" if given == undamaged else "wrong"


def flipped(data: bytes, bit: int) -> bytes:
    """``data`` with one bit changed; bit 0 is the lowest of the first byte."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def all_that_is_seen(folder: Path) -> Any:
    """What a user of a finished run sees: labels, classes, result, configuration, and what the report reads."""
    import numpy as np

    from vitlab import Classifier
    from vitlab.runs.finished import open_run

    run = open_run(folder)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    classifier = Classifier.load(folder)
    labels = [(label.name, label.index, label.probability) for label in classifier(picture)]
    parts: list[Any] = [labels, run.classes, run.result.to_dict(), run.config.to_dict(), run.data]
    parts += [classifier.name, classifier.data_name, run.folder.environment(), run.folder.history()]
    return json.dumps(parts, sort_keys=True, default=str)


def isolated(work: Callable[[], Any], note: Path) -> Any:
    """What ``work`` returns as JSON, from a forked process with limited memory."""
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            note.write_text(json.dumps(work()))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"the process that flips bits ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(note.read_text())


def flip_file(folder: Path, name: str, bits: Iterable[int], deadline: float) -> dict[str, list[int]]:
    """For each class the bits of a file that fall into it; stops at ``deadline``."""
    from vitlab import VitlabError

    def alarm(number: int, frame: object) -> None:
        raise TooLong

    path, found = folder / name, dict[str, list[int]]()
    data, undamaged = path.read_bytes(), all_that_is_seen(folder)
    signal.signal(signal.SIGALRM, alarm)
    for bit in bits:
        if time.monotonic() > deadline:
            break
        path.write_bytes(flipped(data, bit))
        signal.alarm(20)
        kind = classify(lambda: all_that_is_seen(folder), undamaged, VitlabError)
        signal.alarm(0)
        found.setdefault(kind, []).append(bit)
    path.write_bytes(data)
    return found


def after_training(context: Context, folder: Path) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Flips in a finished run folder: failures, and the number of flips in each class for each file."""
    draw, failures, counts = context.draw("flips"), [], {}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if (folder / name).stat().st_size and "checkpoints/" not in name]
    if context.quick:
        names = [name for name in names if name in (*WHOLE, "model.safetensors")]
    end = context.began + 0.7 * context.seconds
    for number, name in enumerate(names):
        size = 8 * (folder / name).stat().st_size
        bits = list(range(size)) if name in WHOLE and not context.quick else None
        if bits is None:
            bits = [draw.randrange(size) for _ in range(context.size(2000, 60))]
        else:
            draw.shuffle(bits)  # if time runs out, those that were tried are spread over the file
        now = time.monotonic()
        deadline = now + (end - now) / (len(names) - number)
        work = lambda name=name, bits=bits, deadline=deadline: flip_file(folder, name, bits, deadline)  # noqa: E731
        found = isolated(work, context.fresh("note"))
        counts[name] = {kind: len(bits) for kind, bits in sorted(found.items())}
        for kind, word in WORDS.items():
            failures += [f"{word} in {name}: bit {bit}" for bit in sorted(found.get(kind, []))]
    return failures, counts


def before_resuming(context: Context) -> list[str]:
    """Flips in an unfinished run folder: what is wrong with each resume, or an empty line."""
    draw, folder = context.draw("resume"), context.unfinished
    names = [
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.stat().st_size
    ]
    names = [name for name in sorted(names) if not name.endswith(".tmp")]
    newest = max(name for name in names if "checkpoints/" in name)
    names += [newest] * 3
    cases = [(name, draw.randrange(8 * (folder / name).stat().st_size)) for name in names * context.size(8, 1)]
    if context.quick:
        cases += [(newest, draw.randrange(8 * (folder / newest).stat().st_size)) for _ in range(4)]

    def flip(case: tuple[str, int]) -> str:
        name, bit = case
        copy = context.copy(folder, "flip")
        (copy / name).write_bytes(flipped((copy / name).read_bytes(), bit))
        end = context.run(["train", "--resume", copy, "--quiet"])
        wrong = end.wrong and f"{end.wrong.lower()} before resuming: {shown(end)}"
        if not wrong and end.code and not end.is_one_line:
            wrong = f"not one line before resuming: {shown(end)}"
        if not wrong and end.code == 0:
            same = trace(copy) == context.trace and same_json(copy / "data.json", context.unbroken / "data.json")
            wrong = "" if same else "silently wrong after resuming: another result"
        shutil.rmtree(copy, ignore_errors=True)
        return wrong and f"{wrong}, bit {bit} of {name}"

    return context.each(flip, cases)


def same_json(one: Path, other: Path) -> bool:
    """Whether two files hold the same JSON."""
    return bool(json.loads(one.read_text(errors="replace")) == json.loads(other.read_text()))


def checked(context: Context, folder: Path) -> dict[str, int]:
    """How many flips `vitlab check` notices, where that command is there."""
    if context.run(["check", folder]).code != 0:
        return {}
    draw, noticed, tried = context.draw("check"), 0, 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        data = path.read_bytes()
        for _ in range(context.size(6, 1)):
            path.write_bytes(flipped(data, draw.randrange(8 * len(data))))
            noticed, tried = noticed + (context.run(["check", folder]).code != 0), tried + 1
        path.write_bytes(data)
    return {"check_noticed": noticed, "check_tried": tried}


def attack(context: Context) -> Figures:
    """Flips in every file of a finished run, and before a resume."""
    failures, counts = after_training(context, context.copy(context.unbroken, "flips"))
    resumed = before_resuming(context)
    total: Counter[str] = Counter()
    for one in counts.values():
        total.update(one)
    more = {"files": counts, "classes": dict(total), "resumes": len(resumed)}
    more |= checked(context, context.copy(context.unbroken, "check"))
    attacked = sum(total.values()) + len(resumed)
    return figures([*failures, *resumed], attacked, **more)
