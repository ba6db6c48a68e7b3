"""Put the tables of all measurements and committed studies into their pages: `python -m docs.make_tables`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    attention_worth,
    cluster,
    cold_start,
    corrections,
    drawn_digits,
    duel,
    fine_tuning,
    first_screen,
    gpu_profile,
    growth,
    inference,
    larger_than_memory,
    neighbours,
    novelty,
    page_replay,
    page_speed,
    page_training,
    photos,
    ranks,
    serve_load,
    shipping,
    suspects,
    throughput,
    unequal,
    validation,
)
from benchmarks.pages import fill, renew
from docs import make_exercises
from docs.links import PAGES
from vitlab.files import read_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIRST_SCREEN = RESULTS / "duel-xeon-2-threads.json"  # the duel in the README's table
# By how the file's name begins; files of duels and validation runs have names of all kinds.
REPORTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "attention-worth": attention_worth.report,
    "cluster": cluster.report,
    "cold-start": cold_start.report,
    "corrections": corrections.report,
    "drawn-digits": drawn_digits.report,
    "fine-tuning": fine_tuning.report,
    "gpu-profile": gpu_profile.report,
    "growth": growth.report,
    "inference": inference.report,
    "larger-than-memory": larger_than_memory.report,
    "neighbours": neighbours.report,
    "novelty": novelty.report,
    "page-replay": page_replay.report,
    "page-speed": page_speed.report,
    "page-training": page_training.report,
    "photos": photos.report,
    "profile": throughput.report,
    "ranks": ranks.report,
    "serve-load": serve_load.report,
    "shipping": shipping.report,
    "suspects": suspects.report,
    "throughput": throughput.report,
    "unequal": unequal.report,
}


def measurements() -> list[Path]:
    """All result files, except those of `make proof`, which has its own page."""
    return [path for path in sorted(RESULTS.glob("*.json")) if not path.name.startswith("proof-")]


def report(path: Path) -> str:
    """What the benchmark says about the measurement in ``path``."""
    measured = read_json(path)
    found = next((made for start, made in REPORTS.items() if path.name.startswith(start)), None)
    if found:
        return found(measured)
    return validation.table(measured["rows"]) if "common" in measured else duel.report(measured)


def reports() -> dict[str, str]:
    """Of every result file and study its report, by the name that marks its place."""
    files = {path.stem: report(path) for path in measurements()}
    files[first_screen.NAME] = first_screen.report(read_json(FIRST_SCREEN))
    tables = ROOT.glob("studies/*/table.md")
    studies = {f"studies/{path.parent.name}": path.read_text(encoding="utf-8").rstrip() for path in tables}
    return files | studies | make_exercises.tables()


def stale(made: Mapping[str, str]) -> list[Path]:
    """The pages whose tables are not those of the reports."""
    return [page for page in PAGES if (text := page.read_text(encoding="utf-8")) != fill(text, made)]


if __name__ == "__main__":
    found = reports()
    renew(stale(found), found)
