"""What the C kernels compute: what they know, torch's operations for everything else, and the same network."""

from __future__ import annotations

import dataclasses
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.killing import trace
from tests.tiny import tiny_config, write_npz
from vitlab import Reporter, RunFolder, resume_run, train_run
from vitlab.config import MachineConfig, ModelConfig
from vitlab.errors import ConfigError
from vitlab.files import user_cache
from vitlab.machine import Machine, choose_machine
from vitlab.model import ViT, build_model
from vitlab.native.accelerate import TABLES, UNRELATED, NativeDropout, NativeViT, accelerate, load_kernels, unknown_to
from vitlab.native.build import Kind, Library, NativeError, load
from vitlab.runs import prepare

# Of a width that the kernels at both ends of the network know, too.
CALM: dict[str, Any] = dict(dropout=0.0, attn_dropout=0.0, drop_path=0.0, precision="bf16", embed_dim=48)
DROPPING: dict[str, Any] = CALM | dict(dropout=0.1, attn_dropout=0.1, head_dropout=0.2, mlp_last_gelu=True)


def machine(**changes: Any) -> Machine:
    chosen = choose_machine(MachineConfig(device="cpu", threads=1, precision="bf16"))
    return replace(chosen, **changes)


def need(kind: Kind) -> None:
    try:
        load(kind, user_cache() / "native")
    except NativeError as error:
        pytest.skip(str(error))


@pytest.fixture
def kernel() -> None:
    need("bf16")


@pytest.fixture
def float_kernel() -> None:
    need("float")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kernels": "plain"}, "asked"),
        ({"device": torch.device("meta")}, "only on a CPU"),
    ],
)
def test_machines_that_the_kernels_do_not_fit(changes: Any, word: str) -> None:
    notes: list[str] = []
    kernels, chosen = load_kernels(machine(**changes), notes.append)
    assert (kernels, chosen.kernels, notes) == (None, "plain", [])
    if "kernels" not in changes:
        with pytest.raises(ConfigError, match=f"native kernels are unavailable.*{word}"):
            load_kernels(machine(kernels="native", **changes), notes.append)


def test_where_there_is_no_compiler_torch_computes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: str) -> None:
        raise NativeError("no C compiler")

    monkeypatch.setattr("vitlab.native.accelerate.library", refuse)
    notes: list[str] = []
    kernels, chosen = load_kernels(machine(), notes.append)
    assert (kernels, chosen.kernels) == (None, "plain")
    assert notes == ["using torch's own operations instead of vitlab's kernels: no C compiler"]
    with pytest.raises(ConfigError, match="no C compiler"):
        load_kernels(machine(kernels="native"), notes.append)


@pytest.mark.usefixtures("float_kernel")
def test_auto_uses_kernels_only_where_they_were_measured_to_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load("float", user_cache() / "native")

    def of(kind: str, instructions: Any = "NEON") -> Library:
        assert kind == "float"
        return Library("float", found.path, instructions)

    monkeypatch.setattr("vitlab.native.accelerate.library", of)
    notes: list[str] = []
    kernels, chosen = load_kernels(machine(precision="fp32"), notes.append)
    assert (kernels, chosen.kernels) == (None, "plain")
    assert "faster only with AVX512-BF16, AVX-512, AVX2" in notes[0]
    kernels, chosen = load_kernels(machine(precision="fp32", kernels="native"), notes.append)
    assert kernels is not None
    assert (chosen.kernels, chosen.kernels_multiply_by, len(notes)) == ("native", "NEON", 1)


def test_the_kernels_lists_name_every_knob_of_a_network() -> None:
    """A new knob must be put into a table of the kernels that know it, or into UNRELATED."""
    listed = UNRELATED.union(*TABLES.values())
    assert listed == {field.name for field in dataclasses.fields(ModelConfig)}
    assert not UNRELATED & set().union(*TABLES.values())


@dataclasses.dataclass(frozen=True)
class Future(ModelConfig):
    """A later version, whose author forgot the kernels."""

    gate: float = 0.5


def test_a_knob_that_no_list_names_keeps_every_part_in_torch() -> None:
    assert {unknown_to(table, Future()) for table in TABLES.values()} == {"gate 0.5"}


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("knobs", "left"),
    [
        (dict(dropout=0.1, attn_dropout=0.1, mlp_last_gelu=True, pool="flatten"), {}),
        (dict(drop_path=0.1, pool="flatten"), {"the blocks": "drop_path 0.1"}),
        (dict(pool="cls"), {"the embedding": "pool cls", "the head": "pool cls"}),
        (dict(embed_dim=44, pool="flatten"), {"the embedding": "embed_dim 44", "the head": "embed_dim 44"}),
        (dict(pool="flatten", head_hidden=(5, 3)), {"the head": "head_hidden 5 3"}),
    ],
    ids=str,
)
def test_parts_that_the_kernels_do_not_know_are_torchs_and_are_named(knobs: Any, left: dict[str, str]) -> None:
    config = ModelConfig(**knobs)
    for asked, expected in (("auto", 0), ("native", len(left))):
        notes: list[str] = []
        model, kernels, chosen = accelerate(ViT(config, 1, 7), machine(kernels=asked), notes.append)
        assert isinstance(model, NativeViT)
        assert kernels is not None
        assert (model.left_to_torch, chosen.kernels) == (left, "native")
        assert len(notes) == expected
        assert all(reason in note for reason, note in zip(left.values(), notes, strict=False))


@pytest.mark.usefixtures("float_kernel")
@pytest.mark.parametrize(
    ("knobs", "torchs"),
    [
        (dict(), 1),
        (dict(pool="mean"), 1),
        (dict(head_dropout=0.2), 2),
        (dict(pool="cls"), 2),
        (dict(kernels="plain"), 2),
    ],
    ids=str,
)
def test_torch_keeps_to_one_thread_where_the_kernels_compute_the_whole_network(
    knobs: Any, torchs: int, tmp_path: Path
) -> None:
    whole = CALM | dict(precision="fp32", pool="flatten", kernels="native", threads=2)
    found: set[int] = set()
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), **(whole | knobs))
    train_run(config, tmp_path / "run", Reporter(step=lambda *state: found.add(torch.get_num_threads())))
    assert found == {torchs}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("kernel")
def test_networks_that_the_kernels_do_not_know_stay_as_they_are_but_for_their_dropout() -> None:
    notes: list[str] = []
    plain = build_model(ModelConfig(arch="cnn", head_dropout=0.5), 1, 7)
    model, _, _ = accelerate(plain, machine(kernels="native"), notes.append)
    assert model is plain
    assert isinstance(model.head[0], NativeDropout)
    assert notes == ["torch computes the whole network: the kernels support only the ViT"]


@pytest.mark.usefixtures("kernel")
def test_torchs_compiler_gets_the_plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    plain = ViT(ModelConfig(), 1, 7)
    assert accelerate(plain, machine(compile=True), print)[0] is plain


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("pool", ["cls", "mean", "flatten"])
@pytest.mark.parametrize("form", ["qkv", "merged", "none"])
@pytest.mark.parametrize(("norm", "act"), [("layer", "gelu"), ("rms", "relu2")])
def test_the_network_is_the_same_with_the_kernel(pool: Any, form: Any, norm: Any, act: Any, tmp_path: Path) -> None:
    """Up to bf16: the kernel's logits and gradients lie as close to float32 as autocast's."""
    knobs: dict[str, Any] = CALM | dict(
        pool=pool, attn_form=form, norm=norm, act=act, num_heads=1 if form == "merged" else 3, attn_bias=form != "none"
    )
    data = write_npz(tmp_path / "glyphs.npz")
    made = [
        prepare.prepare(tiny_config(data, **knobs | changes), lambda note: None)
        for changes in ({"kernels": "native"}, {"kernels": "plain"}, {"precision": "fp32", "kernels": "plain"})
    ]
    assert [p.task.machine.kernels for p in made] == ["native", "plain", "plain"]
    results = [outputs(p) for p in made]
    native, autocast = (distance(result, results[2]) for result in results[:2])
    assert 0 < native < 1.5 * autocast + 1e-3


@pytest.mark.usefixtures("float_kernel")
@pytest.mark.parametrize(
    ("form", "norm", "act", "pool"),
    [
        ("qkv", "layer", "gelu", "flatten"),
        ("merged", "rms", "relu2", "flatten"),
        ("none", "layer", "relu2", "flatten"),
        ("qkv", "layer", "gelu", "mean"),
        ("merged", "rms", "relu2", "mean"),
    ],
)
def test_in_fp32_it_is_the_same_up_to_rounding(form: Any, norm: Any, act: Any, pool: Any, tmp_path: Path) -> None:
    heads = 1 if form == "merged" else 3
    knobs = CALM | dict(precision="fp32", pool=pool, attn_form=form, norm=norm, act=act, num_heads=heads)
    knobs |= dict(attn_bias=True, attn_bias_shared=pool == "mean")
    data = write_npz(tmp_path / "glyphs.npz")
    made = [
        prepare.prepare(tiny_config(data, **knobs, kernels=kernels), lambda note: None) for kernels in ("auto", "plain")
    ]
    assert made[0].task.machine.kernels == ("native" if made[0].task.kernels else "plain")
    native, plain = map(outputs, made)
    assert distance(native, plain) < 1e-5


def outputs(prepared: Any) -> torch.Tensor:
    """Logits and all gradients, one after the other, of a network whose weights are random everywhere."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in prepared.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    images = prepared.task.preprocess(prepared.task.train.images[:19])
    with prepared.task.machine.autocast():
        logits = prepared.model(images).float()
    logits.logsumexp(dim=1).sum().backward()
    return torch.cat([logits.detach().flatten(), *(p.grad.flatten() for p in prepared.model.parameters())])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("knobs", "threads"),
    [(CALM, 1), (CALM | {"precision": "fp32"}, 2), (DROPPING, 2), (DROPPING | {"drop_path": 0.1}, 1)],
)
def test_with_the_kernel_a_run_repeats_and_resumes_bit_for_bit(
    knobs: dict[str, Any], threads: int, tmp_path: Path
) -> None:
    config = tiny_config(
        write_npz(tmp_path / "glyphs.npz"), **knobs, threads=threads, optimizer="muon", kernels="native", ema_decay=0.9
    )
    for name in ("whole", "again"):
        train_run(config, tmp_path / name)
    assert RunFolder(tmp_path / "whole").environment()["kernels"] == "native"
    assert trace(tmp_path / "whole") == trace(tmp_path / "again")

    def press(task: object, counters: Any, sums: object) -> None:
        if counters.step == 8:
            signal.raise_signal(signal.SIGINT)

    assert train_run(config, tmp_path / "broken", Reporter(step=press))["status"] == "interrupted"
    resume_run(tmp_path / "broken")
    assert trace(tmp_path / "broken") == trace(tmp_path / "whole")
