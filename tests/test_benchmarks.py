"""The arithmetic of the benchmarks: models, counts, statistics, tables. No test measures time."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import cold_start, growth, inference, neighbours, page_speed, steps, throughput, timing
from tests.tiny import tiny_config, tiny_model_config, write_npz
from vitlab.config import MachineConfig, ModelConfig
from vitlab.errors import StorageError, VitlabError
from vitlab.files import read_json
from vitlab.machine import Machine, choose_machine
from vitlab.model.block import Block
from vitlab.training.step import training_inputs

ENVIRONMENT = {"device_name": "CPU", "threads": 1, "precision": "fp32", "kernels": "plain", "torch": "2"}
WHEN = {"started_utc": "2026-01-31T12:00:00Z"}


@pytest.fixture
def machine() -> Machine:
    return choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))


# The cost model of growth.py.


def point(flops: float, moved: float, operations: int, batch: int, coefficients: dict[str, float]) -> dict[str, Any]:
    """A measured point that obeys ``coefficients`` exactly."""
    costs = {"flops_per_image": flops, "bytes_per_image": moved, "operations": operations, "batch_size": batch}
    seconds = growth.modelled(costs, coefficients)
    return costs | {"seconds_per_image": {"median": seconds, "q1": 0.9 * seconds, "q3": 1.2 * seconds}}


def points(coefficients: dict[str, float], count: int = 23) -> list[dict[str, Any]]:
    draw = random.Random(0)
    sizes = [(1e6 * draw.uniform(1, 99), 1e5 * draw.uniform(1, 99), draw.randint(99, 999)) for _ in range(count)]
    return [point(*size, draw.choice((7, 61, 503)), coefficients) for size in sizes]


def test_the_cost_model_adds_up_its_four_terms() -> None:
    coefficients = {"a": 1e-6, "b": 2e-12, "c": 3e-11, "d": 5e-6}
    made = point(7e6, 11e5, 130, 13, coefficients)
    assert growth.modelled(made, coefficients) == pytest.approx(1e-6 + 14e-6 + 33e-6 + 50e-6)


def test_the_fit_recovers_known_coefficients() -> None:
    coefficients = {"a": 3e-6, "b": 7e-12, "c": 1.3e-10, "d": 1.7e-5}
    assert growth.fit(points(coefficients)) == pytest.approx(coefficients, rel=1e-6)


def test_no_coefficient_is_negative() -> None:
    found = growth.fit(points({"a": 9e-4, "b": 7e-12, "c": -1e-12, "d": 1.7e-5}))
    assert min(found.values()) == found["c"] == 0.0


def test_the_bytes_of_a_block_counted_by_hand() -> None:
    config = tiny_model_config()  # N 9, D 14, h 2, d 11, H 28
    wide = 252 + 252 + 252 + 252  # two norms, two sums: each reads and writes 9 x 14
    attention = [126 + 594, 3 * 396, 396 + 162, 324, 324, 162 + 198 + 198, 396, 198 + 126, 126]
    mlp = [126 + 252, 504, 252 + 126, 126]
    assert growth.block_bytes(config, 4, fused=False) == 4 * wide + 4 * (sum(attention) + sum(mlp))
    in_bf16 = 4 * wide + 2 * (sum(attention) + sum(mlp)) + 2 * 126 * (4 + 2)
    assert growth.block_bytes(config, 2, fused=False) == in_bf16


class BytesMoved(TorchDispatchMode):
    """Adds up what operators read and write; those that only look at a tensor in another way move nothing."""

    VIEWS = ("view", "transpose", "permute", "unbind", "t", "_unsafe_view", "expand", "select", "unsqueeze")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ not in self.VIEWS:
            leaves = tree_leaves((args, kwargs, result))
            self.total += sum(x.numel() * x.element_size() for x in leaves if isinstance(x, torch.Tensor))
        return result


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("form", ["qkv", "merged", "none"])
def test_the_bytes_of_a_block_are_what_torchs_operators_move(form: str, bf16: bool, fused: bool) -> None:
    knobs: dict[str, Any] = dict(num_heads=1) if form == "merged" else dict(num_heads=3, head_dim=11)
    config = ModelConfig(image_size=35, patch_size=5, embed_dim=44, depth=1, attn_form=form, **knobs)  # type: ignore[arg-type]
    block, images = Block(config, 49, 0.0), 67
    if block.attn is not None:
        block.attn.fused = fused
    x = torch.randn(images, 49, 44)
    with BytesMoved() as moved, torch.no_grad(), torch.autocast("cpu", enabled=bf16):
        block(x)
    formula = growth.block_bytes(config, 2 if bf16 else 4, fused)
    assert formula == pytest.approx(moved.total / images, rel=0.04)  # weights, and a norm's two numbers a token


def test_growths_table_has_each_point_and_its_error() -> None:
    coefficients = {"a": 1e-5, "b": 0.0, "c": 0.0, "d": 0.0}
    made = [point(1e6, 1e6, 100, size, coefficients) for size in (2, 3)]
    made[1]["seconds_per_image"] = {"median": 5e-6, "q1": 4e-6, "q3": 8e-6}
    rest = {"tokens": 5, "embed_dim": 7, "depth": 11, "axis": "batch_size"}
    rows = [rest | row | {"name": str(row["batch_size"])} for row in made]
    text = growth.report({"points": rows, "coefficients": coefficients, "environment": ENVIRONMENT | WHEN})
    assert text.splitlines()[2].endswith("| 10.0 (9.0 to 12.0) | 10.0 | +0 % |")
    assert text.splitlines()[3].endswith("| 5.0 (4.0 to 8.0) | 10.0 | +100 % |")
    assert "50 % on average, 100 % at most" in text


# The steps that are timed are those that train.


def benches(tmp_path: Path) -> tuple[steps.Bench, steps.Bench]:
    knobs: dict[str, object] = dict(optimizer="muon", ema_decay=0.9, grad_clip=1.0, clean_tail=0.5, epochs=1)
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), **knobs)
    return steps.set_up(config), steps.set_up(config)


def assert_same_state(one: steps.Bench, other: steps.Bench) -> None:
    for a, b in zip(one.state.evaluated.parameters(), other.state.evaluated.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.state.model.parameters(), other.state.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.state.sums, other.state.sums)
    assert one.state.counters == other.state.counters


def test_a_step_in_pieces_is_the_step(tmp_path: Path) -> None:
    """If this fails, train_step has changed: change step_in_pieces in the same way."""
    whole, pieces = benches(tmp_path)
    laps = steps.Laps(whole.task.machine)
    for _ in range(7):  # further than the part that augments
        steps.whole_step(whole)
        steps.step_in_pieces(pieces, laps)
    assert_same_state(whole, pieces)
    assert {len(seconds) for seconds in laps.seconds.values()} == {7}


def test_a_step_whose_input_is_ready_is_the_step(tmp_path: Path) -> None:
    whole, ready = benches(tmp_path)
    steps.ready_step(ready)()
    steps.whole_step(whole)
    assert_same_state(whole, ready)


def test_timed_steps_always_augment_and_batches_are_full(tmp_path: Path) -> None:
    bench, _ = benches(tmp_path)
    images, _ = next(bench.batches)
    clean = bench.task.preprocess(images)
    for _ in range(13):
        bench.rewind()
        draws = bench.draws(bench.state.counters.step)
        assert not torch.equal(training_inputs(bench.task, images, draws), clean)
        bench.state.counters.step += 1
        assert len(next(bench.batches)[1]) == bench.task.config.train.batch_size


def test_operators_are_counted_forward_and_backward(machine: Machine) -> None:
    a, b = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7)
    timer = steps.operators_of(machine, lambda: (a @ b).relu_().sum().backward())
    assert timer.calls["mm"] == 2  # b needs no gradient
    assert timer.calls["relu_"] == timer.calls["threshold_backward"] == 1
    assert timer.seconds.keys() == timer.calls.keys()


# What all of them share.


def test_functions_take_turns(machine: Machine) -> None:
    called: list[str] = []
    calls = {name: (lambda name=name: called.append(name)) for name in "ab"}
    taken = timing.interleaved(machine, calls, rounds=3, turn=0.0, between=lambda: called.append("-"))
    assert "".join(called).split("-")[1:] == ["aabb"] * 3
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3}


def test_medians_quartiles_and_rates() -> None:
    summary = timing.quartiles([5.0, 1.0, 4.0, 2.0, 3.0])
    assert summary == {"median": 3.0, "q1": 2.0, "q3": 4.0, "values": [5.0, 1.0, 4.0, 2.0, 3.0]}
    assert timing.spread(summary, 1000, 0) == "3,000 (2,000 to 4,000)"
    assert timing.rate(summary, 12) == {"median": 4.0, "q1": 3.0, "q3": 6.0}
    assert timing.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_contestant_may_carry_knobs() -> None:
    config = timing.contestant("small/patch_size=7/precision=fp32", threads=3, precision="bf16")
    assert (config.preset, config.model.patch_size) == ("small", 7)
    assert (config.machine.threads, config.machine.precision) == (3, "fp32")


def test_what_is_kept_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    parser = timing.options(None)
    kept = timing.carry_out(parser.parse_args(["--out", str(path)]), lambda: {"n": 7}, str)
    shown = timing.carry_out(parser.parse_args(["--show", str(path)]), lambda: {"n": 8}, str)
    assert (kept, shown, read_json(path)) == (0, 0, {"n": 7})
    assert capsys.readouterr().out == "{'n': 7}\n" * 2
    assert timing.carry_out(parser.parse_args([]), dict, str) == StorageError.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_package_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^no_such_package is missing.*\[bench\]"):
        timing.optional("no_such_package.part")


def test_the_table_of_throughput() -> None:
    seconds = {"median": 0.1, "q1": 0.08, "q3": 0.125}
    row = {"parameters": 1234, "batch_size": 100, "forward_flops_per_image": 10_000_000, "environment": ENVIRONMENT}
    row |= {"step_seconds": seconds, "without_input_seconds": seconds | {"median": 0.06}}
    ceilings = {"fp32": {"median": 100.0, "q1": 99.0, "q3": 101.0}}
    measured = {"ceilings_gflops": ceilings, "presets": {"x": row}, "environment": ENVIRONMENT | WHEN}
    line = throughput.report(measured).splitlines()[2]
    assert "| 100.00 (80.00 to 125.00) | 1,000 (800 to 1,250) |" in line
    assert line.endswith("| 10.00 | 30.0 | 50.0 | 50 % |")  # 3 x 10 MFLOP x 100 images in 0.1 s and in 0.06 s


def test_kernels_are_compared_with_torch_round_by_round() -> None:
    taken = {"x": [0.1, 0.2, 0.1], "x/kernels=plain": [0.2, 0.5, 0.4], "y": [0.1, 0.1, 0.1]}
    row = {"batch_size": 100, "forward_flops_per_image": 10_000_000, "environment": ENVIRONMENT | {"precision": "fp32"}}
    presets = {name: row | dict.fromkeys(("step_seconds", "without_input_seconds"), timing.quartiles(values))
               for name, values in taken.items()}  # fmt: skip
    table = throughput.comparison({"presets": presets, "ceilings_gflops": {"fp32": {"median": 100.0}}}).splitlines()
    assert len(table) == 3
    assert "| 250 (222 to 333) | 1,000 (667 to 1,000) | 2.50 (2.25 to 3.25) | 30 % |" in table[2]


def test_neighbours_are_compared_with_the_bars() -> None:
    rates = [dict(zip(neighbours.BARS, (1000.0, *kept), strict=True)) for kept in ((610, 390, 400), (620, 380, 430))]
    about = ENVIRONMENT | WHEN | {"git_commit": None}
    row = {"preset": "x", "code": "this", "environment": about} | neighbours.summary(rates)
    text = neighbours.report({"environment": ENVIRONMENT | WHEN, "rows": [row]})
    assert "| `x` | 1,000 (1,000 to 1,000) | 62 (61 to 62) % | 38 (38 to 39) % | 42 (41 to 42) % |" in text
    assert "`x` keeps less than we ask for: beside one a core (40 %).\n" in text


def test_the_table_of_a_profile() -> None:
    one, two = ({"median": value, "q1": value, "q3": value} for value in (1e-3, 2e-3))
    measured = {"profile": "x", "batch_size": 7, "step_seconds": two, "pieces": {"forward": one, "backward": one}}
    measured |= {"operators": {"mm": one}, "operators_seconds": one, "operator_calls": {"mm": 3}}
    text = throughput.report(measured | {"environment": ENVIRONMENT | WHEN})
    for line in ("| their sum | 2,000 | 100.0 % |", "| `mm` | 3 | 1,000 (1,000 to 1,000) | 50.0 % |"):
        assert line in text
    assert "| outside of them, at least |  | 1,000 | 50.0 % |" in text


def test_stages_of_a_start_add_up() -> None:
    ended = {stage: float(moment**2) for moment, stage in enumerate(cold_start.STAGES, start=1)}
    assert [*cold_start.durations(ended).values()] == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0]
    runs = [{"ended": ended, "train_seconds": 2.0}] * 3
    measured = {"presets": {"x": {"runs": runs}}, "settings": {"repeats": 3}, "environment": ENVIRONMENT | WHEN}
    text = cold_start.report(measured).splitlines()
    assert text[2].startswith("| `x` | 16.00 (16.00 to 16.00) | 25.00 (25.00 to 25.00) | 49.00 (49.00 to 49.00) |")
    assert text[6] == "| `x` | 1.00 | 3.00 | 5.00 | 7.00 | 9.00 | 11.00 | 13.00 | 15.00 |"
    ended = {"imports": 1.0, "network": 1.5, "answer": 3.5, "exit": 3.75}
    commands = {"today": {"train": [2.0] * 3, "predict": [3.0, 5.0, 4.0]}}
    commands |= {"before": {"train": [7.0] * 3, "predict": [8.0] * 3}}
    measured |= {"predicting": [ended] * 3, "commands": commands, "before": "abc of a day"}
    text = cold_start.report(measured).splitlines()
    assert text[10] == "| `vitlab predict` | 1.00 | 0.50 | 2.00 | 0.25 |"
    assert text[14] == "| today | 2.00 (2.00 to 2.00) | 4.00 (3.50 to 4.50) |"
    assert text[15] == "| before (abc of a day) | 7.00 (7.00 to 7.00) | 8.00 (8.00 to 8.00) |"


def test_knobs_become_options() -> None:
    words = [cold_start.flag(word) for word in ("batch_size=7", "flip=true", "normalize=false")]
    assert words == ["--batch-size=7", "--flip", "--no-normalize"]


def test_the_table_of_inference() -> None:
    seconds = {name: {"median": value, "q1": value, "q3": value} for name, value in (("1", 1e-3), ("32", 4e-3))}
    preset: dict[str, dict[str, Any]] = {
        "differences": {"torch fp32": 0.0, "other": 2e-5},
        "seconds": {"torch fp32": seconds, "other": seconds},
    }
    versions = dict.fromkeys(inference.BENCH_EXTRA, "1")
    measured = {
        "settings": {"batches": [1, 32]},
        "presets": {"x": preset},
        "environment": ENVIRONMENT | WHEN | versions,
    }
    lines = inference.report(measured).splitlines()
    assert lines[2] == "| `x` | torch fp32 | 1.000 (1.000 to 1.000) | 8,000 (8,000 to 8,000) | 0 |"
    assert lines[3].endswith("| 2.0e-05 |")
    assert len(lines) == 6
    for name, values in ((inference.OURS, [2.0, 1.0, 1.0]), (inference.ONNX, [3.0, 4.0, 2.0])):
        preset["differences"][name] = 0.0
        preset["seconds"][name] = {n: one | {"values": values} for n, one in seconds.items()}
    line = "Times as fast as ONNX Runtime fp32, with 1 and 32 at once (medians over rounds): `x` 2.00 and 2.00."
    assert inference.report(measured).splitlines()[7] == line


def test_page_speed_compares_logits_and_refuses_what_is_apart() -> None:
    expected = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
    near = [[1.0, 2.00005, 3.0], [3.0, 2.0, 1.00002]]
    assert page_speed.difference("it", near, expected) == {"images": 2, "same_answer": 2, "largest_difference": 5e-05}
    for far in ([[1.0, 2.0, 3.0], [3.0, 2.0002, 1.0]], [[1.0, 2.0, 3.0], [3.0, math.nan, 1.0]]):
        with pytest.raises(VitlabError, match="it: the page's logits"):
            page_speed.difference("it", far, expected)


def test_page_speed_takes_medians_over_all_turns() -> None:
    turns = [({"forward": [1.0, 2.0], "reading": [5.0]}, {"reading": [70.0]})]
    turns += [({"forward": [9.0], "reading": [7.0]}, {"reading": [90.0]})]
    told = page_speed.times(turns)
    assert told["forward_ms"] == {"median": 2.0, "p90": 7.6}  # 2 + 0.8 (9 - 2)
    assert told["reading_ms"]["median"] == 6.0
    assert told["deletion_map_ms"]["median"] == 80.0
