"""The README's table, from runs whose medians and means can be computed by hand."""

from __future__ import annotations

from typing import Any

from benchmarks import first_screen


def run(contestant: str, seed: int, top1: float, seconds: float) -> dict[str, Any]:
    return {
        "contestant": contestant,
        "seed": seed,
        "started_utc": f"2026-01-0{seed + 1}T00:00:00Z",
        "about": {"environment": {"device_name": "A Processor", "threads": 3}},
        "epochs": [{"test_top1": 0.1, "train_seconds": 0.1}, {"test_top1": top1, "train_seconds": seconds}],
    }


def test_rows_hold_means_medians_and_ratios_of_the_same_seed() -> None:
    scores, seconds = (0.97, 0.98, 0.99), (70.0, 130.0, 110.0)
    runs = [
        run(name, seed, scores[seed], seconds[seed] / factor)
        for name, factor in zip(first_screen.SHOWN, (2.5, 43.4, 58.6, 10.0, 1.0), strict=True)
        for seed in range(3)
    ]
    lines = first_screen.report({"runs": runs}).replace("\N{NO-BREAK SPACE}", " ").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:7]]
    assert [row[0] for row in rows] == ["`small`", "`fast`", "`fast` without attention", "`cnn-tuned`", "Keras CNN"]
    assert {row[2] for row in rows} == {"98.00 ± 1.00"}
    assert [row[3] for row in rows] == ["44.0 s", "2.5 s", "1.9 s", "11.0 s", "110.0 s"]
    assert [row[4] for row in rows] == ["2.5", "43", "59", "10", "1"]
    assert " 3 times " in lines[8]
    assert lines[-1].endswith("A Processor, 3 threads, 2026-01-03.")


def test_a_ratio_keeps_its_seed() -> None:
    """The median of the ratios, not the ratio of the medians: 2 and 3, 5 and 2, 7 and 1."""
    assert first_screen.times({0: 2.0, 1: 5.0, 2: 7.0}, {0: 6.0, 1: 10.0, 2: 7.0}) == "2.0"
