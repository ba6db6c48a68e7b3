"""A study on a Ray cluster of two nodes, one of which goes away in the middle, against runs in this process."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.killing import trace
from tests.tiny import tiny_config, write_npz
from tests.waiting import PATIENCE_SECONDS, wait_for
from vitlab import files
from vitlab.errors import ConfigError
from vitlab.files import read_json, sha256
from vitlab.progress import Lines
from vitlab.runs.session import train_run
from vitlab.studies.driver import Driver, Progress
from vitlab.studies.executors.follow import newest_checkpoint
from vitlab.studies.executors.ray import RayExecutor
from vitlab.studies.grid import Study, make_cells
from vitlab.studies.unit import Ending, Unit

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes of one core with an empty cache, of which the second test leaves one: starting them takes much longer
    than what they do."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Connected at once, and so to the head: a node that the driver is connected to cannot be removed.
        made = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def executor(cluster: Any) -> Iterator[RayExecutor]:
    """One for all tests."""
    made = RayExecutor(cluster.address, cpus=1, gpus=0)
    yield made
    made.stop()


def small_study(data: Path, epochs: int) -> Study:
    base = tiny_config(data, epochs=epochs, checkpoint_seconds=0.2)
    return Study("small", make_cells(base, [{"depth": 1}, {"depth": 2}], {}), (0,))


def test_nodes_that_are_too_small_or_other_or_do_not_see_the_storage_are_refused(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(executor, "cpus", 99)
        with pytest.raises(ConfigError, match=r"needs 99 CPU and 0 GPU on one node, but the Ray .* at most 1 CPU"):
            executor.check_size()
    with monkeypatch.context() as patch:
        patch.setattr(executor, "here", executor.here | {"torch": "2.3.5"})
        with pytest.raises(ConfigError, match=r"^node \S+ has torch 2\.\d+\.\d+, but this machine has torch 2\.3\.5: "):
            executor.survey()
    with monkeypatch.context() as patch:
        patch.setattr(executor, "storage", tmp_path / "shared")
        executor.survey()
        patch.setattr(files, "write_bytes", lambda path, data: None)  # the file to look for
        with pytest.raises(ConfigError, match=r"does not see \S+shared; .*storage.* takes a folder that all"):
            executor.survey()


def test_a_node_that_goes_away_costs_nothing_but_time(
    cluster: Any, executor: RayExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run on the node that dies continues on the other one from the last checkpoint that has arrived."""
    study = small_study(write_npz(tmp_path / "glyphs.npz"), epochs=80)
    second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    (mark,) = (
        f"({one['NodeID'][:4]})" for one in executor.nodes() if one["RayletSocketName"] == second.raylet_socket_name
    )
    lines, lost, jobs = Lines(), list[str](), {job.name: job for job in study.order}
    assert executor.slots == 2

    def watch(progress: Progress) -> None:
        lines.show(progress)
        for name, place in progress.where.items():
            if not lost and place.node.endswith(mark) and newest_checkpoint(tmp_path / "runs" / jobs[name].digest):
                lost.append(name)
                cluster.remove_node(second, allow_graceful=False)

    notes = list[str]()
    driver = Driver(study, tmp_path / "study", tmp_path / "runs", executor, note=notes.append, show=watch)
    rows, complete = driver.run()
    assert complete
    assert [(row["status"], row["attempts"]) for row in rows] == [("done", 1)] * 2
    (note,) = notes
    assert note.startswith(f"{lost[0]}: its node")
    assert "it continues from its checkpoint of step" in note
    train_run(jobs[lost[0]].config.with_knobs(checkpoint_seconds=60.0), tmp_path / "here")
    for name, job in jobs.items():  # whole run folders have come back
        there = tmp_path / "runs" / job.digest
        assert len(read_json(there / "environment.json")["resumed"]) == (name == lost[0])
        assert name != lost[0] or trace(there) == trace(tmp_path / "here")
    wait_for(
        lambda: executor.slots == 1
    )  # the cluster takes a moment to notice, and slots are not counted all the time
    out, shown = capsys.readouterr()
    assert out == ""
    assert len(set(re.findall(r"depth \d, seed 0: on \S+ \(\w+\)", shown))) == 3  # one run has been on both nodes
    assert "epochs done" in shown


def test_images_go_where_there_are_none_and_a_stopped_study_keeps_its_state(
    executor: RayExecutor, tmp_path: Path
) -> None:
    data = write_npz(tmp_path / "glyphs.npz")
    content, executor.storage = data.read_bytes(), tmp_path / "shared"
    first, second = small_study(data, epochs=5).order[0], small_study(data, epochs=100_000).order[0]
    units = [
        Unit(job.digest, job.config.to_dict(), tmp_path / "runs" / job.digest, tmp_path / "log", sha256(content))
        for job in (first, second)
    ]
    assert executor.pieces(units[0])  # packed before they vanish here, and so on the node
    data.unlink()
    executor.begin(units[0])
    endings, until = list[Ending](), time.monotonic() + PATIENCE_SECONDS
    while not endings and time.monotonic() < until:
        endings = executor.ended(1.0)
    assert [(ending.unit.name, ending.code) for ending in endings] == [(first.digest, 0)]
    assert (files.user_cache() / "shipped" / sha256(content)[:32] / "glyphs.npz").read_bytes() == content
    assert not (tmp_path / "shared" / first.digest).exists()
    executor.begin(units[1])
    while not newest_checkpoint(tmp_path / "shared" / second.digest) and time.monotonic() < until:
        executor.ended(0.1)
    executor.stop()
    assert [read_json(unit.folder / "result.json")["status"] for unit in units] == ["done", "interrupted"]
    assert newest_checkpoint(units[1].folder)


def test_an_address_that_does_not_answer() -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at address=.127\.0\.0\.1:9."):
        RayExecutor("127.0.0.1:9", cpus=1, gpus=0)
    assert time.monotonic() - began < 10
