"""Choosing recipes and judging duels: validation, verdicts, the candidates for a GPU. No test measures time."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_profile, pages, validation, verdict
from benchmarks.timing import parse_assignment
from tests.tiny import write_npz
from vitlab.errors import ConfigError, VitlabError
from vitlab.files import read_json, write_json

ENVIRONMENT = {"device_name": "CPU", "threads": 1, "precision": "fp32", "kernels": "plain", "torch": "2"}
WHEN = {"started_utc": "2026-01-31T12:00:00Z"}


# The verdict of a duel.


def run_of(contestant: str, seed: int, top1: list[float], seconds: float) -> dict[str, Any]:
    """A run whose epochs take ``seconds`` each."""
    epochs = [
        {"epoch": n, "steps": 7 * n, "train_seconds": n * seconds, "test_top1": top}
        for n, top in enumerate(top1, start=1)
    ]
    config = {"train": {"epochs": len(top1), "batch_size": 11}}
    about = {"parameters": {"blocks": 1000, "head": 234}, "environment": ENVIRONMENT, "config": config}
    run = {"contestant": contestant, "seed": seed, "about": about, "epochs": epochs, "gemm_gflops_before": 100.0}
    return run | WHEN | {"end": {"test_top1_shifts": top1[-1]}}


def test_seconds_to_is_the_end_of_the_first_epoch_that_is_good_enough() -> None:
    run = run_of("x", 0, [0.97, 0.99, 0.985, 0.992], seconds=2.0)
    assert [verdict.seconds_to(run, bar) for bar in (0.5, 0.98, 0.99, 0.992, 0.995)] == [2.0, 4.0, 4.0, 8.0, None]


def test_exceeds_is_the_one_sided_t_test() -> None:
    """Against the closed form of Student's distribution with two degrees of freedom."""
    t = (99.2 - 99.0) / (0.1 / math.sqrt(3))
    assert verdict.exceeds([99.1, 99.2, 99.3], 99.0) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t**2)), rel=1e-6)
    assert verdict.exceeds([98.7, 98.8, 98.9], 99.0) > 0.5


def test_ratios_compare_runs_of_the_same_seed() -> None:
    ours, theirs = {0: 1.0, 1: 2.0, 2: 4.0, 9: 100.0}, {0: 3.0, 1: 6.0, 2: 12.0, 8: 1.0}
    assert verdict.ratio_interval(ours, theirs) == pytest.approx((3.0, 3.0, 3.0))
    middle, low, high = verdict.ratio_interval(dict.fromkeys(range(9), 1.0), {n: 1.0 + n for n in range(9)})
    assert 1.0 <= low < middle == 5.0 < high <= 9.0


def test_the_verdict_lists_every_contestant(tmp_path: Path) -> None:
    runs = [
        run_of(name, seed, [0.98, 0.990 + seed * rise / 1000], seconds)
        for seed in range(3)
        for name, seconds, rise in (("a", 1.0, 1.0), ("b", 3.0, -2.0))
    ]
    path = tmp_path / "runs.json"
    write_json(path, {"runs": runs})
    lines = verdict.table(read_json(path)["runs"], against="b").splitlines()
    ours, theirs = (next(line for line in lines if line.startswith(f"| `{name}` |")) for name in "ab")
    assert "1,234" in ours
    assert "| 99.10 ± 0.10 | +0.30 ± 0.17 |" in ours  # 0.0, 0.3 and 0.6: 0.3 / sqrt(3)
    assert "| 98.80 ± 0.20 |  |" in theirs
    assert ours.endswith("| 3.0 (3.0 to 3.0) | 3.0 (3.0 to 3.0) |")  # to the end, and to 99.0 %
    assert "s to 98 % | s to 99 % | times faster" in lines[0]  # 99.5 %, which none reached, is left out
    assert "3 seeds each, ± standard deviation over them." in lines
    one_is_better = [run_of("a", 0, [0.996], 1.0), run_of("b", 0, [0.99], 1.0)]
    assert verdict.table(one_is_better, against="b").splitlines()[3].split(" | ")[-4:-2] == ["1.0", "never"]


def test_a_table_of_photos_has_no_columns_about_digits() -> None:
    runs = [run_of(name, seed, [0.88 + seed / 100], 1.0) for seed in range(3) for name in "ab"]
    head = verdict.table(runs, against="b").splitlines()[0]
    assert head.endswith("| lowest | training s | images/s | times faster |")


def test_throughput_is_images_by_seconds_or_what_keras_says() -> None:
    run = run_of("x", 0, [0.9, 0.9, 0.9], seconds=2.0)
    assert verdict.images_per_second(run) == pytest.approx(7 * 11 / 2.0)
    for row, rate in zip(run["epochs"], (10.0, 30.0, 20.0), strict=True):
        row["images_per_second"] = rate
    assert verdict.images_per_second(run) == 20.0


# The GPU's recipes, on a CPU.


def test_candidates_are_named_as_the_duel_takes_them() -> None:
    made = gpu.candidates("99.0")
    assert len(made) == len(set(made)) == 16
    for name in made:
        preset, *words = name.split("/")
        assert preset == "fast"
        assert dict(map(parse_assignment, words)).keys() == gpu.GRIDS["99.0"][1].keys()
    assert made[0].endswith("compile=true/lr=0.01/warmup_epochs=0.5/batch_size=1024/epochs=3.5/muon_lr=0.04")


def test_tuning_validates_every_candidate_and_shows_the_fastest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gpu.GRIDS, "99.0", ("fast", {"epochs": (7, 1)}))
    data = write_npz(tmp_path / "glyphs.npz")
    small: dict[str, Any] = dict(image_size=8, crop=8, patch_size=2, patch_overlap=1, embed_dim=8, batch_size=17)
    gpu.tune("99.0", range(5, 8), tmp_path / "tuned.json", dict(data=str(data), device="cpu", threads=1) | small)
    rows = read_json(tmp_path / "tuned.json")["rows"]
    assert [(row["contestant"], row["seed"]) for row in rows] == [
        (f"fast/epochs={n}", s) for s in (5, 6, 7) for n in (7, 1)
    ]
    assert all(0 <= row["val_top1"] <= 1 and row["train_seconds"] > 0 for row in rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| `fast/epochs=1`", "| `fast/epochs=7`"]


def test_a_profile_sorts_kernels_by_kind_and_what_is_left_is_idle() -> None:
    kernels = {
        "fmha_cutlassB_bf16_aligned": (2, 131.0),
        "sm80_xmma_gemm_f32f32_f32f32_f32_nn": (21, 85.0),
        "void cublasLt::splitKreduce_kernel<32, 16>": (3, 7.0),
        "nvjet_sm90_tst_64x96": (5, 25.0),
        "triton_red_fused_gelu": (3, 23.0),
        "triton_poi_fused__scaled_dot_product_efficient_attention_expand": (1, 1.0),
        "memcpy32_post": (19, 22.0),
        "void at::native::vectorized_elementwise_kernel<4>": (11, 13.0),
    }
    made = [{"name": name, "calls": calls, "us": us} for name, (calls, us) in kernels.items()]
    row = validated("small", 1, 0.9, 0.9) | {"batch": 500, "step_us": [390.0, 1400.0, 400.0], "kernels": made}
    assert gpu_profile.report({"rows": [row]}).splitlines()[2] == (
        "| `small` | 400 | 1,250,000 | 65 | 24 | 131 | 85 | 32 | 22 | 13 | 93 |"
    )


def test_a_profile_counts_the_operators_of_recorded_steps_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded: list[int] = []
    monkeypatch.setattr(gpu_profile, "record_steps", lambda state, task: recorded.append(state.counters.step))
    data, out, page = write_npz(tmp_path / "glyphs.npz"), tmp_path / "made.json", tmp_path / "page.md"
    page.write_text("<!-- made -->\n<!-- /made -->\n")
    knobs = f"data={data} image_size=8 patch_size=2 patch_overlap=1 embed_dim=8 batch_size=17 threads=1 kernels=plain"
    words = ["small", "small/depth=1", "--device", "cpu", "--out", str(out), "--into", str(page), "--knobs"]
    monkeypatch.setattr(sys, "argv", ["gpu_profile", *words, *knobs.split()])
    assert gpu_profile.main() == 0
    rows = read_json(out)["rows"]
    assert recorded == [0, 0]
    assert [(row["contestant"], row["batch"]) for row in rows] == [("small", 17), ("small/depth=1", 17)]
    for row, blocks in zip(rows, (2, 1), strict=True):
        assert len(row["step_us"]) == gpu_profile.ROUNDS
        calls = {kernel["name"]: kernel["calls"] for kernel in row["kernels"]}
        assert (calls["aten::softmax"], calls["aten::log_softmax"]) == (blocks, 1)  # one in each block; the loss
        spent = [kernel["us"] for kernel in row["kernels"]]
        assert spent == sorted(spent, reverse=True)
    assert gpu_profile.report({"rows": rows}) in page.read_text()
    assert gpu_profile.report({"rows": rows}) in capsys.readouterr().out


def test_a_profile_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_profile", "--out", str(tmp_path / "made.json")])
    with pytest.raises(ConfigError, match="contestants and out=FILE"):
        gpu_profile.main()
    assert not list(tmp_path.iterdir())


# Validation over seeds.


def validated(contestant: str, seed: int, top1: float, shifted: float, seconds: float = 1.0) -> dict[str, Any]:
    about = {
        "device": "cpu",
        "device_name": "a processor",
        "threads": 3,
        "precision": "fp32",
        "torch": "2",
        "started_utc": "2026-01-31T",
    }
    row = {"contestant": contestant, "seed": seed, "environment": about, "train_seconds": seconds}
    return row | {"val_top1": top1, "val_top1_shifts": shifted}


def test_differences_are_those_of_equal_seeds() -> None:
    rows = [validated("a", 1, 0.90, 0.95), validated("a", 2, 0.80, 0.85)]
    rows += [validated("b", 1, 0.92, 0.94), validated("b", 2, 0.86, 0.90), validated("b", 3, 0.5, 0.5, seconds=9.0)]
    lines = validation.table(rows).splitlines()
    assert lines[2] == "| `a` | 2 | 85.00 ± 7.07 |  | 90.00 ± 7.07 |  | 1 |"
    # +2 and +6: mean 4, standard error 2. -1 and +5: mean 2, standard error 3. The third seed has no partner.
    assert lines[3].split(" | ")[3::2] == ["+4.00 ± 2.00", "+2.00 ± 3.00"]
    assert lines[5] == "a processor, 3 threads, fp32, torch 2, 2026-01-31."


def test_what_all_recipes_share_is_said_once() -> None:
    rows = [validated(name, 1, 0.9, 0.9) for name in ("a/lr=1/depth=2", "a/lr=1/depth=3", "b/lr=1")]
    lines = validation.table(rows).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| `a/depth=2`", "| `a/depth=3`", "| `b`"]
    assert lines[6].startswith("All with `lr=1`. a processor")


def test_a_contestants_own_knobs_win_over_those_of_all() -> None:
    config = validation.configuration("small/epochs=3", {"epochs": 5, "depth": 1})
    assert (config.train.epochs, config.model.depth) == (3, 1)
    assert config.data.val_fraction == pytest.approx(1 / 6)


def test_validation_goes_on_where_it_stopped_and_with_the_same_knobs(tmp_path: Path) -> None:
    data, path = write_npz(tmp_path / "glyphs.npz"), tmp_path / "made.json"
    knobs: dict[str, Any] = dict(data=str(data), image_size=8, patch_size=2, patch_overlap=1, embed_dim=8, epochs=1)
    common = knobs | dict(num_heads=1, batch_size=17, threads=1, val_fraction=0.25)
    first = validation.measure(["small"], [5], path, common)["rows"]
    both = validation.measure(["small", "small/depth=1"], [5], path, common)["rows"]
    assert both[0] == first[0]  # its time, too: it was not measured again
    assert [row["contestant"] for row in both] == ["small", "small/depth=1"]
    assert all(0 <= row["val_top1"] <= 1 and row["val_loss"] > 0 for row in both)
    with pytest.raises(VitlabError, match="another file"):
        validation.measure(["small"], [6], path, common | {"depth": 3})


def test_a_page_takes_the_tables_that_it_has_a_place_for() -> None:
    page = "above\n<!-- one -->\nold\n<!-- /one -->\nbelow <!-- two --> stays"
    filled = pages.fill(page, {"one": "new", "two": "no end", "three": "no place"})
    assert filled == page.replace("old", "new")
    assert pages.fill(filled, {"one": "new"}) == filled


def table(*rows: str) -> str:
    """A Markdown table of cells divided by spaces; a dash is an empty cell."""
    head, *lines = ([cell.strip("-") for cell in row.split(" ")] for row in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def test_the_short_form_of_a_report_has_narrow_tables_only() -> None:
    wide = table("run load offered/s answers/s p99 refused", "a 1x 7 5 - 3").replace("p99", "p99 ms")
    kept = table("run load answers/s p99 refused", "a 1x 5 - 3").replace("p99", "p99 ms")
    narrow, unknown = table("x y", "1 2"), table("1 2 3 4 5 6")
    made = pages.short(f"Above.\n\n{wide}\n\n{unknown}\n\n{narrow}\n\nBelow.")
    assert made == f"Above.\n\n{kept}\n\n{narrow}\n\nBelow."
    filled = pages.fill("<!-- t short -->\n<!-- /t short -->", {"t": wide})
    assert filled == f"<!-- t short -->\n{kept}\n<!-- /t short -->"
