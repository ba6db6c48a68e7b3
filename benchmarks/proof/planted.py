"""Is the harness itself awake? Defects are planted into copies of the source; the attack named with each must fail.

A plant is an exact piece of the source and what replaces it. If the piece has changed, the plant is stale, which counts
as a failure: adapt it. tests/test_proof.py checks that every piece is there exactly once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proof.context import ROOT, Context, Figures, figures, kind_of

SOURCE = ROOT / "src" / "vitlab"


@dataclass(frozen=True)
class Plant:
    """A defect: what it is, the attack that must notice it, the file, the piece of its text, and its replacement."""

    name: str
    attack: str
    file: str
    before: str
    after: str


PLANTS = (
    Plant("a file is not flushed before it is renamed", "order", "files.py",
          '        with open(temporary, "rb+") as file:\n            os.fsync(file.fileno())\n',
          '        with open(temporary, "rb+") as file:\n            file.fileno()\n'),
    Plant("the folder is not flushed after a rename", "order", "files.py",
          "        os.replace(temporary, path)\n        system.flush_folder(path.parent)\n",
          "        os.replace(temporary, path)\n"),
    Plant("files are written in place", "order", "files.py",
          "        publish(temporary, path)\n", "        Path(path).write_bytes(data)\n"),
    Plant("old checkpoints are deleted before the new one is written", "order", "runs/folder.py",
          "        files.write_bytes(folder / name, data)\n",
          "        for old in self.checkpoints():\n            files.remove(old)\n"
          "        files.write_bytes(folder / name, data)\n"),
    Plant("the digest of the weights is not compared", "flips", "runs/folder.py",
          "if digest is not None and found != digest:", "if not data:"),
    Plant("the digest of a checkpoint is not compared", "flips", "runs/folder.py",
          'if path.name.split("-")[2] != f"{files.sha256(data)[:32]}.safetensors":', "if not data:"),
    Plant("the order of the images comes from global random state", "crash", "training/loop.py",
          'order = task.machine.generator(train.seed, "order", epoch)', "order = torch.default_generator"),
    Plant("the optimizer's state is not restored", "crash", "training/loop.py",
          '    load_optimizer_tensors(state.optimizers, state.model, parts["optim"])\n', ""),
    Plant("a checkpoint without the optimizer's state is accepted", "forged", "runs/folder.py",
          "        if shapes is not None:\n            check_shapes(path, tensors, {**shapes",
          "        if not shapes:\n            check_shapes(path, tensors, {**shapes"),
    Plant("an epoch with NaN can be the best", "forged", "training/loop.py",
          'if row["val_loss"] is not None and is_better(', "if is_better("),
    Plant("a full disk has another exit code", "disk", "errors.py", "    exit_code = 6\n", "    exit_code = 1\n"),
    Plant("SIGINT and SIGTERM are ignored", "signals", "interrupts.py",
          "        request.signum = signum\n        for number", "        for number"),
    Plant("the lock of a folder is not taken", "starts", "files.py", "        lock.acquire()\n", "        pass\n"),
    Plant("the queue has no end", "slow", "serve/batching.py",
          "return self.pending >= self.limits.queue", "return False"),
    Plant("the size of a body in chunks is not limited", "slow", "serve/body.py",
          "if len(self.data) + size > self.most:", "if not self.most:"),
    Plant("a refusal repeats the text of an exception", "http", "serve/models.py",
          "(ValueError, RecursionError):  # not JSON, rows of unequal length, thousands of digits, too deep\n"
          "        raise wrong from None",
          "(ValueError, RecursionError) as error:\n        raise Refusal(422, str(error)) from None"),
    Plant("any host name may use the server", "access", "serve/access.py",
          "        raise Refusal(403, WRONG_HOST)\n", '        return hosts[0].lower() if hosts else b""\n'),
)  # fmt: skip


def catch(planted: Iterable[str], pristine: Iterable[str]) -> str:
    """The first failure of a kind that the undamaged source does not show; empty if there is none."""
    usual = {kind_of(line) for line in pristine} | {"broken"}  # an attack that breaks has noticed nothing
    return next((line for line in planted if kind_of(line) not in usual), "")


def plant(source: Path, defect: Plant, target: Path) -> bool:
    """Copy the package into ``target`` with the defect; False when its piece is not there exactly once."""
    text = (source / defect.file).read_text(encoding="utf-8") if (source / defect.file).is_file() else ""
    if text.count(defect.before) != 1:
        return False
    shutil.copytree(source, target / "vitlab", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "vitlab" / defect.file).write_text(text.replace(defect.before, defect.after), encoding="utf-8")
    return True


def failures_of(context: Context, attack: str, path: Path | None) -> list[str]:
    """The failures of an attack in its quick form, on a copy of the package below ``path`` or on the package itself."""
    out = context.fresh("planted").with_suffix(".json")
    before = [str(path)] if path else []
    environment: Mapping[str, str] = {"PYTHONPATH": os.pathsep.join([*before, os.environ.get("PYTHONPATH", "")])}
    words = [
        sys.executable,
        "-m",
        "benchmarks.proof",
        attack,
        "--quick",
        "--seed",
        str(context.seed),
        "--out",
        str(out),
    ]
    try:
        subprocess.run(words, cwd=ROOT, env=os.environ | environment, capture_output=True, timeout=240, check=False)
    except subprocess.TimeoutExpired:
        return ["hang: the attack did not end"]
    if not out.exists():
        return ["broken: the attack did not begin"]
    found: dict[str, Any] = json.loads(out.read_text())["attacks"][attack]
    return list(found["failures"])


def attack(context: Context) -> Figures:
    """Each defect with its attack, and each of these attacks once on the undamaged source."""
    context.need_shim()
    context.seconds *= 3  # on a busy machine late is better than not tried, which counts as missed
    names = list(dict.fromkeys(defect.attack for defect in PLANTS))
    pristine = dict(zip(names, context.each(lambda name: failures_of(context, name, None), names), strict=False))

    def try_plant(defect: Plant) -> dict[str, Any]:
        copy = context.fresh("source")
        if not plant(SOURCE, defect, copy):
            return {"name": defect.name, "attack": defect.attack, "caught": False, "by": "stale"}
        by = catch(failures_of(context, defect.attack, copy), pristine.get(defect.attack, []))
        shutil.rmtree(copy, ignore_errors=True)
        return {"name": defect.name, "attack": defect.attack, "caught": bool(by), "by": by[:160]}

    found = context.each(try_plant, PLANTS)
    wrong = ["" if one["caught"] else f"{'stale' if one['by'] else 'missed'}: {one['name']}" for one in found]
    wrong += [f"not tried: {defect.name}" for defect in PLANTS[len(found) :]]
    return figures(wrong, len(PLANTS), plants=found)
