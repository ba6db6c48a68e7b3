"""Studies on clusters, attacked: nodes of a Ray cluster that come and go, a job of Slurm that is preempted.

    python -m benchmarks.cluster --out benchmarks/results/cluster-NAME.json
    python -m benchmarks.cluster --show benchmarks/results/cluster-NAME.json
    python -m benchmarks.cluster --only ray slurm --out ...      some of the parts ray, slurm and scale

All nodes are processes of this machine, each with one core. Ray: 12 runs on three nodes, two of which are killed and
replaced at random; every row, and the weights of every run, must be those of the same study in local processes, and no
run may begin anew once one of its checkpoints has arrived. Slurm: submitit's own executor starts six runs,
and one of them is preempted. Scale: the same longer runs on one Ray node and on two, and in one and two local
processes, which says what the machine itself allows. --quick makes all runs short, to try the script.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import carry_out, markdown, options
from vitlab import RunConfig, preset_config
from vitlab.config import MachineConfig
from vitlab.errors import RunError
from vitlab.files import read_json
from vitlab.machine import choose_machine, environment
from vitlab.runs.session import origin, train_run
from vitlab.studies.driver import Driver, Executor, Progress
from vitlab.studies.executors.follow import newest_checkpoint
from vitlab.studies.executors.local import LocalExecutor
from vitlab.studies.executors.ray import RayExecutor
from vitlab.studies.executors.slurm import SlurmExecutor
from vitlab.studies.grid import Study, make_cells

SAME = ("cell", "seed", "status", "test_top1", "test_loss", "val_top1", "params", "run", "attempts")
PARTS = ("ray", "slurm", "scale")
ATTACK_SECONDS, LONG_SECONDS, SLURM_SECONDS = 10.0, 35.0, 6.0  # of a run on an idle core
QUICK = 10  # times shorter
PAUSE_SECONDS = (10.0, 30.0)  # between two attacks, drawn evenly: a node and a run take seconds to start
CHECKPOINT_SECONDS = 2.0
NODES = 3
CALIBRATION_EPOCHS = 5


def study_of(epochs: float, seeds: int, *depths: int) -> Study:
    """A cell for each depth, with these seeds; each run takes one thread."""
    cells = make_cells(config_of(epochs), [{"depth": depth} for depth in depths], {})
    return Study("cluster", cells, tuple(range(seeds)))


def config_of(epochs: float) -> RunConfig:
    """A ViT on the digits that come with scikit-learn."""
    knobs: dict[str, Any] = {"data": "digits", "threads": 1, "checkpoint_seconds": CHECKPOINT_SECONDS}
    return preset_config("small").with_knobs(
        **knobs, image_size=8, patch_size=2, patch_overlap=0, embed_dim=32, num_heads=2, epochs=epochs
    )


def epoch_seconds() -> float:
    """Of an epoch of the deeper cell, on one thread."""
    with tempfile.TemporaryDirectory() as place:
        result = train_run(config_of(CALIBRATION_EPOCHS).with_knobs(depth=2), Path(place) / "run")
    return float(result["train_seconds"]) / CALIBRATION_EPOCHS


def carried_out(
    study: Study, place: Path, executor: Executor, show: Callable[[Progress], None] = lambda progress: None
) -> dict[str, Any]:
    """The study's rows, with the digests of the weights, its notes and its seconds."""
    notes, began = list[str](), time.monotonic()
    try:
        rows, complete = Driver(study, place / "study", place / "runs", executor, notes.append, show).run()
    finally:
        executor.stop()
    weights = {row["run"]: read_json(place / "runs" / row["run"] / "result.json")["model_sha256"] for row in rows}
    seconds, kept = time.monotonic() - began, [{name: row[name] for name in SAME} for row in rows]
    return {"complete": complete, "rows": kept, "weights": weights, "notes": notes, "seconds": seconds}


@dataclass
class Attack:
    """Kills and adds nodes while a study runs, and watches its run folders."""

    cluster: Any
    runs: Path
    draw: random.Random
    others: list[Any]
    due: float = 0.0
    removed: int = 0
    added: int = 0
    anew: int = 0  # runs that lost a checkpoint
    begun: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def __call__(self, progress: Progress) -> None:
        """Look at the runs, and from time to time change the cluster."""
        for folder in self.runs.iterdir() if self.runs.is_dir() else ():
            self.look_at(folder)
        if self.due and time.monotonic() >= self.due:
            self.change()
        if not self.due or time.monotonic() >= self.due:
            self.due = time.monotonic() + self.draw.uniform(*PAUSE_SECONDS)

    def look_at(self, folder: Path) -> None:
        """Count a run that began at another time than before although it had a checkpoint."""
        try:
            started = str(read_json(folder / "environment.json")["started_utc"])
        except RunError:  # no file has arrived yet, or the first ones are arriving
            return
        before, checkpoint = self.begun.get(folder.name, (started, None))
        self.anew += before != started and checkpoint is not None
        self.begun[folder.name] = started, newest_checkpoint(folder) or (checkpoint if before == started else None)

    def change(self) -> None:
        """Kill one of the nodes, or add one; the first, to which the driver is connected, stays."""
        if self.others and (len(self.others) == NODES - 1 or self.draw.random() < 0.5):
            self.cluster.remove_node(self.others.pop(self.draw.randrange(len(self.others))), allow_graceful=False)
            self.removed += 1
        else:
            self.others.append(self.cluster.add_node(num_cpus=1))
            self.added += 1


def ray_cluster(nodes: int) -> tuple[Any, list[Any]]:
    """A cluster of this many nodes with one core, and all of them but the first."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    made: Any = Cluster(initialize_head=True, connect=True, head_node_args=head)
    return made, [made.add_node(num_cpus=1) for _ in range(nodes - 1)]


def attack_ray(study: Study, place: Path) -> dict[str, Any]:
    """The study on nodes that come and go, and in local processes."""
    near = carried_out(study, place / "local", LocalExecutor(2, 2))
    cluster, others = ray_cluster(NODES)
    try:
        attack = Attack(cluster, place / "ray" / "runs", random.Random(7), others)
        far = carried_out(study, place / "ray", RayExecutor(cluster.address, 1, 0), attack)
    finally:
        cluster.shutdown()
    lost = [note for note in far["notes"] if "is lost" in note]
    return {
        "runs": len(far["rows"]),
        "equal": far["rows"] == near["rows"] and far["weights"] == near["weights"] and far["complete"],
        "nodes_removed": attack.removed,
        "nodes_added": attack.added,
        "places_lost": len(lost),
        "continued": sum("continues from" in note for note in lost),
        "without_checkpoint": sum("no checkpoint yet" in note for note in lost),
        "anew_with_checkpoint": attack.anew,
        "other_notes": [note for note in far["notes"] if note not in lost],
        "seconds": far["seconds"],
        "seconds_local": near["seconds"],
    }


def scale(study: Study, place: Path) -> dict[str, Any]:
    """Seconds of the same runs with one worker and with two, on Ray and in local processes."""
    seconds: dict[str, Any] = {}
    for workers in (1, 2):
        cluster, _ = ray_cluster(workers)
        try:
            there = place / f"ray-{workers}"
            seconds[f"ray_{workers}"] = carried_out(study, there, RayExecutor(cluster.address, 1, 0))["seconds"]
        finally:
            cluster.shutdown()
        here = carried_out(study, place / f"local-{workers}", LocalExecutor(workers, workers))
        seconds[f"local_{workers}"] = here["seconds"]
    runs = [read_json(path)["train_seconds"] for path in (place / "ray-1" / "runs").glob("*/result.json")]
    efficiency = {f"efficiency_{kind}": seconds[f"{kind}_1"] / seconds[f"{kind}_2"] / 2 for kind in ("ray", "local")}
    return seconds | efficiency | {"runs": len(study.order), "shortest_run": min(runs)}


def preempt(study: Study, place: Path) -> dict[str, Any]:
    """The study by submitit's local executor, with the last job preempted once it has a checkpoint."""
    near, preempted = carried_out(study, place / "local", LocalExecutor(2, 2)), list[str]()
    executor = SlurmExecutor({"cluster": "local"}, 1, 0, len(study.order), place / "jobs")

    def show(progress: Progress) -> None:
        last = executor.queued[-1] if executor.queued else None
        step = newest_checkpoint(last.unit.folder) if last and last.job else None
        if last and step and not preempted:
            preempted.append(str(step))
            os.kill(child_of(int(last.job.job_id)), signal.SIGUSR2)

    far = carried_out(study, place / "slurm", executor, show)
    resumed = [
        len(read_json(path)["resumed"]) for path in sorted((place / "slurm" / "runs").glob("*/environment.json"))
    ]
    equal = far["rows"] == near["rows"] and far["weights"] == near["weights"] and far["complete"]
    about = {"runs": len(far["rows"]), "preempted": len(preempted), "continued": sum(resumed), "notes": far["notes"]}
    return about | {"equal": equal, "seconds": far["seconds"], "seconds_local": near["seconds"]}


def child_of(process: int) -> int:
    """The process that submitit's controller has started."""
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All parts."""
    machine, shorter = choose_machine(MachineConfig(threads=1)), QUICK if arguments.quick else 1
    epoch = epoch_seconds()
    attacked, queued, long = (
        math.ceil(seconds / shorter / epoch) for seconds in (ATTACK_SECONDS, SLURM_SECONDS, LONG_SECONDS)
    )
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "ray": lambda place: attack_ray(study_of(attacked, 6, 1, 2), place),
        "slurm": lambda place: preempt(study_of(queued, 3, 1, 2), place),
        "scale": lambda place: scale(study_of(long, 4, 2), place),
    }
    found: dict[str, Any] = {"environment": environment(machine) | origin(), "cores": os.cpu_count()}
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as place:
            found[name] = parts[name](Path(place))
        print(name, json.dumps(found[name]), flush=True)
    return found


def report(measured: dict[str, Any]) -> str:
    """What was attacked and what became of it, in a table."""
    rows, equal, environ = [], {True: "all", False: "NOT ALL"}, measured["environment"]
    if ray := measured.get("ray"):
        rows.append([
            f"Ray, three nodes: {ray['nodes_removed']} killed, {ray['nodes_added']} added",
            f"{ray['runs']}",
            equal[ray["equal"]],
            f"{ray['places_lost']}: {ray['continued']} continued, {ray['without_checkpoint']} had no checkpoint yet",
            f"{ray['anew_with_checkpoint']}",
        ])  # fmt: skip
    if slurm := measured.get("slurm"):
        rows.append([
            f"Slurm's array by submitit: {slurm['preempted']} preempted",
            f"{slurm['runs']}",
            equal[slurm["equal"]],
            f"{slurm['preempted']}: {slurm['continued']} continued",
            f"{slurm['preempted'] - slurm['continued']}",
        ])  # fmt: skip
    head = ["attack", "runs", "rows and weights as local", "runs that lost their place", "anew despite a checkpoint"]
    where = f"{environ['device_name']}, {measured['cores']} cores, torch {environ['torch']}"
    where += f", {environ['started_utc'][:10]}, commit {environ['git_commit']}."
    table = f"{markdown(head, rows)}\n\n" if rows else ""
    scaled = measured.get("scale")
    if scaled is None:
        return table + where
    efficiency = [f"{scaled[f'efficiency_{kind}']:.0%}" for kind in ("ray", "local")]
    return (
        f"{table}Of {scaled['runs']} runs of {scaled['shortest_run']:.0f} s and more, two Ray nodes "
        f"of one core do {scaled['ray_1'] / scaled['ray_2']:.2f} times as many in the same time as one, an efficiency "
        f"of {efficiency[0]}; local processes reach {efficiency[1]} (one worker {scaled['ray_1']:.0f} s and "
        f"{scaled['local_1']:.0f} s, two workers {scaled['ray_2']:.0f} s and {scaled['local_2']:.0f} s). {where}"
    )


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure [all]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
