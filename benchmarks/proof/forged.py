"""Run folders whose digests are right and whose content is not: NaN among the weights, states with parts missing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.proof.context import KNOBS, Context, Figures, figures, finish, reseal, shown, trace

Tensors = dict[str, Any]
Change = Callable[[Tensors, dict[str, str]], None]  # of the tensors and the metadata


def unpacked(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    import safetensors.torch

    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return safetensors.torch.load(data), header.get("__metadata__", {})


def packed(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """The inverse."""
    import safetensors.torch

    return bytes(safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, metadata))


def forge_weights(run: Path, change: Change) -> None:
    """Change the weights of a finished run and write their new digest into result.json."""
    path = run / "model.safetensors"
    tensors, metadata = unpacked(path)
    change(tensors, metadata)
    data = packed(tensors, metadata)
    result = json.loads((run / "result.json").read_text())
    old, new = hashlib.sha256(path.read_bytes()).hexdigest(), hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    (run / "result.json").write_text(json.dumps(result).replace(old, new))
    reseal(run)


def forge_checkpoint(run: Path, change: Change) -> None:
    """Change the newest checkpoint, name it by its new digest, and delete the others."""
    paths = sorted((run / "checkpoints").glob("step-*"), reverse=True)
    tensors, metadata = unpacked(paths[0])
    change(tensors, metadata)
    data = packed(tensors, metadata)
    for path in paths:
        path.unlink()
    step = paths[0].name.split("-")[1]
    name = f"step-{step}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    (run / "checkpoints" / name).write_bytes(data)


def no_numbers(tensors: Tensors, metadata: dict[str, str]) -> None:
    """weights that are NaN"""
    for name, value in tensors.items():
        if value.is_floating_point():
            tensors[name] = value * float("nan")


def one_infinity(tensors: Tensors, metadata: dict[str, str]) -> None:
    """one weight that is infinite"""
    name = next(name for name in sorted(tensors) if "model" in name or "/" not in name)
    tensors[name].view(-1)[0] = float("inf")


def no_optimizer(tensors: Tensors, metadata: dict[str, str]) -> None:
    """no optimizer state"""
    for name in [name for name in tensors if name.startswith("optim/")]:
        del tensors[name]


def half_optimizer(tensors: Tensors, metadata: dict[str, str]) -> None:
    """half of the optimizer state"""
    for name in sorted(name for name in tensors if name.startswith("optim/"))[::2]:
        del tensors[name]


def no_average(tensors: Tensors, metadata: dict[str, str]) -> None:
    """no average of the weights"""
    for name in [name for name in tensors if name.startswith("average/")]:
        del tensors[name]


def other_shape(tensors: Tensors, metadata: dict[str, str]) -> None:
    """a tensor of another shape"""
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name] = tensors[name].reshape(-1)[:-1].clone()


def one_more(tensors: Tensors, metadata: dict[str, str]) -> None:
    """a tensor too many"""
    tensors["model/extra" if any("/" in name for name in tensors) else "extra"] = next(iter(tensors.values())).clone()


def without_counters(tensors: Tensors, metadata: dict[str, str]) -> None:
    """no counters"""
    del metadata["counters"]


def counters(**changes: Any) -> Change:
    """Other values among the counters."""

    def change(tensors: Tensors, metadata: dict[str, str]) -> None:
        metadata["counters"] = json.dumps(json.loads(metadata["counters"]) | changes)

    change.__doc__ = f"counters with {', '.join(f'{name} {value}' for name, value in changes.items())}"
    return change


WEIGHTS = (no_numbers, one_infinity, other_shape, one_more)
STATES = (
    no_numbers, one_infinity, no_optimizer, half_optimizer, no_average, other_shape, one_more, without_counters,
    counters(step=-1), counters(step=10**9), counters(step="7"), counters(rows=[{}]), counters(rows=5),
    counters(extra=1),
)  # fmt: skip
READERS = (
    ["predict", "RUN", "PICTURE"], ["evaluate", "RUN", "--quiet"], ["export", "RUN", "--to", "web", "--out", "WEB"],
    ["look", "RUN", "--quiet"], ["serve", "RUN", "--port", "0"],
)  # fmt: skip


def attack(context: Context) -> Figures:
    """Forged weights for every reader, forged checkpoints for a resume, and trainings that diverge."""
    from PIL import Image

    picture = context.folder / "grey.png"
    Image.new("L", (8, 8), 99).save(picture)

    def read(case: tuple[Change, list[str]]) -> str:
        change, words = case
        run = context.copy(context.unbroken, "forged")
        forge_weights(run, change)
        names: dict[str, object] = {"RUN": run, "PICTURE": picture, "WEB": context.fresh("web")}
        end = context.run([names.get(word, word) for word in words], seconds=15)
        shutil.rmtree(run, ignore_errors=True)
        what = f"{change.__doc__}, {words[0]}"
        if end.hung:
            return f"accepted: {what}" if words[0] == "serve" else f"hang: {what}"
        if end.wrong:
            return f"{end.wrong.lower()}: {what}; {shown(end)}"
        if end.code == 0:
            return f"accepted: {what}"
        return "" if end.is_one_line else f"not one line: {what}; {shown(end)}"

    def resume(case: tuple[Change, str]) -> str:
        change, where = case
        run = context.copy(context.unfinished if where == "middle" else context.unbroken, "forged")
        (run / "result.json").unlink(missing_ok=True)
        (run / "model.safetensors").unlink(missing_ok=True)
        forge_checkpoint(run, change)
        end = context.run(["train", "--resume", run, "--quiet"])
        what = f"{change.__doc__} in a checkpoint of the {where}, resume"
        same = end.code == 0 and trace(run) == context.trace
        shutil.rmtree(run, ignore_errors=True)
        if end.wrong:
            return f"{end.wrong.lower()}: {what}; {shown(end)}"
        if end.code == 0:
            return "" if same else f"accepted: {what}"
        return "" if end.is_one_line else f"not one line: {what}; {shown(end)}"

    def diverge(case: tuple[str, str, str]) -> str:
        lr, epochs, pause = case
        out = context.fresh("diverge")
        shape = f"--epochs {epochs} --batch-size 500 --warmup-epochs 0 --schedule constant --checkpoint-seconds {pause}"
        end = context.run(["train", *KNOBS, "--lr", lr, "--muon-lr", lr, *shape.split(), "--out", out])
        what = f"a training with lr {lr} for {epochs} epochs"
        kept = out / "model.safetensors"
        finite = not kept.exists() or all(bool(value.isfinite().all()) for value in unpacked(kept)[0].values())
        if end.wrong:
            return f"{end.wrong.lower()} after diverging: {what}; {shown(end)}"
        if not finite:
            return f"kept after diverging: {what} keeps weights that are not finite, exit {end.code}"
        return "" if end.code in (0, 4) else f"exit {end.code} after diverging: {what}; {shown(end)}"

    weights = [(change, words) for change in WEIGHTS for words in (READERS[:1] if context.quick else READERS)]
    failures = context.each(read, weights)
    places = ("middle",) if context.quick else ("middle", "end")
    failures += context.each(resume, [(change, where) for change in STATES for where in places])
    failures += context.each(
        diverge, [(lr, epochs, pause) for lr in ("1e38", "1e4") for epochs in "13" for pause in ("0", "999")]
    )
    intact = context.copy(context.unfinished, "intact")  # the forger itself changes nothing
    forge_checkpoint(intact, lambda tensors, metadata: None)
    failures.append(finish(context, intact))
    return figures(failures, len(failures))
