"""A study on a Ray cluster of two nodes, one of which goes away in the middle, against the same study on this machine.

python -m tests.test_study_ray      prints how much faster two workers are than one
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_config, write_npz
from vitlab.errors import ConfigError
from vitlab.studies.driver import Driver, Executor, Progress
from vitlab.studies.executors.local import LocalExecutor
from vitlab.studies.executors.ray import RayExecutor
from vitlab.studies.grid import Study, make_cells

pytest.importorskip("ray")
RESULTS = ("cell", "seed", "status", "test_top1", "val_top1", "params", "run")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core, of which the first test leaves one: starting them takes much longer than what they do."""
    from ray.cluster_utils import Cluster

    # Connected at once, and so to the head: a node that the driver is connected to cannot be removed.
    made = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()  # type: ignore[no-untyped-call]


def small_study(folder: Path, epochs: int = 2, seeds: int = 3) -> Study:
    base = tiny_config(write_npz(folder / "glyphs.npz"), epochs=epochs, threads=1, checkpoint_seconds=60.0)
    return Study("small", make_cells(base, [{"depth": 1}, {"depth": 2}], {}), tuple(range(seeds)))


def run(study: Study, folder: Path, executor: Executor, show: Any = lambda progress: None) -> list[Any]:
    try:
        rows, complete = Driver(study, folder / "study", folder / "runs", executor, show=show).run()
    finally:
        executor.stop()
    assert complete
    return rows


def test_a_node_that_goes_away_costs_nothing_but_time(cluster: Any, tmp_path: Path) -> None:
    study = small_study(tmp_path)
    second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    removed: list[int] = []

    def remove(progress: Progress) -> None:
        if len(progress.rows) >= 2 and not removed:
            removed.append(len(progress.rows))
            cluster.remove_node(second, allow_graceful=False)

    executor = RayExecutor(cluster.address, cpus=1, gpus=0)
    assert executor.slots == 2
    far = run(study, tmp_path / "ray", executor, remove)
    near = run(study, tmp_path / "local", LocalExecutor(slots=2, cores=2))
    assert removed == [2] or removed == [3]
    assert len(far) == 6
    assert [[row[name] for name in RESULTS] for row in far] == [[row[name] for name in RESULTS] for row in near]
    for row in far:  # whole run folders have come back
        own, other = (tmp_path / place / "runs" / row["run"] for place in ("ray", "local"))
        assert (own / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_what_fails_there_is_a_row_here(cluster: Any, tmp_path: Path) -> None:
    study = small_study(tmp_path, seeds=1)
    (tmp_path / "glyphs.npz").unlink()
    rows = run(study, tmp_path, RayExecutor(cluster.address, cpus=1, gpus=0))
    assert [row["status"] for row in rows] == ["crashed", "crashed"]
    assert "glyphs.npz" in rows[0]["log"][-1]


def test_more_than_the_cluster_has(cluster: Any) -> None:
    with pytest.raises(ConfigError, match=r"needs 99 CPU and 0 GPU, but the Ray cluster has [12] CPU"):
        RayExecutor(cluster.address, cpus=99, gpus=0)


def test_an_address_that_does_not_answer() -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at address=.127\.0\.0\.1:9."):
        RayExecutor("127.0.0.1:9", cpus=1, gpus=0)
    assert time.monotonic() - began < 10


def main() -> None:
    """Efficiency of two workers against one: the same runs, on clusters of one and of two cores."""
    from ray.cluster_utils import Cluster

    seconds = {}
    for cores in (1, 2):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cores, "include_dashboard": False})
        with tempfile.TemporaryDirectory() as name:
            executor = RayExecutor(cluster.address, cpus=1, gpus=0)
            began = time.monotonic()
            run(small_study(Path(name), epochs=200), Path(name), executor)
            seconds[cores] = time.monotonic() - began
        cluster.shutdown()  # type: ignore[no-untyped-call]
    print(f"8 runs: {seconds[1]:.1f} s with one worker, {seconds[2]:.1f} s with two: ", end="")
    print(f"efficiency {seconds[1] / seconds[2] / 2:.0%}")


if __name__ == "__main__":
    main()
