"""Whether everything in a study folder is whole, with the runs that it names: what `vitlab check` says about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.runs.check import Finding, attempt, check_run
from vitlab.runs.folder import RunFolder
from vitlab.studies.driver import read_rows, read_study

AGAIN = "rerun the study: finished runs are kept"
ROW: dict[str, Any] = {**dict.fromkeys(("cell", "status", "run"), str), "seed": int}


def check_study(folder: Path, runs: Path) -> list[Finding]:
    """study.json, rows.jsonl, and each run in ``runs`` that a row names as done."""
    found = [attempt("study.json", lambda: read_study(folder)), attempt("rows.jsonl", lambda: checked_rows(folder))]
    if any(one.is_bad for one in found):
        return found
    done = dict.fromkeys(str(row["run"]) for row in read_rows(folder) if row["status"] == "done")
    return found + [run_finding(runs, name) for name in done]


def checked_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows, each with the entries that every row has."""
    path = folder / "rows.jsonl"
    return [files.check_table(path, row, ROW, AGAIN, f"row {n}: ") for n, row in enumerate(read_rows(folder), start=1)]


def run_finding(runs: Path, name: str) -> Finding:
    """One finding about a whole run: the first thing that is wrong with it."""
    if name != Path(name).name or name.startswith("."):
        return Finding("rows.jsonl", "damaged", f"{name!r} is not the name of a run; {AGAIN}")
    path = runs / name
    if not files.exists(path):
        return Finding(name, "missing", f"it is not in {runs}; name the right folder with --runs, or {AGAIN}")
    bad = next((one for one in check_run(path) if one.is_bad), None)
    if bad is None and RunFolder(path).result() is None:
        bad = Finding(name, "damaged", f"its row says done, but it has not ended; {AGAIN}")
    return Finding(name, bad.state, f"{bad.name}: {bad.text}") if bad else Finding(name, "ok")
