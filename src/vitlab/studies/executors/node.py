"""What happens on a node of a cluster, whichever engine has brought it there: a run in a process, from its last
checkpoint if there is one.

A node's own process loads neither torch nor, for itself, Ray or submitit: it is called by one of these.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from types import FrameType
from typing import Any

from vitlab import __version__, files
from vitlab.config import RunConfig
from vitlab.errors import VitlabError
from vitlab.studies.executors.follow import Marks, changes, epochs_done, follow, marks
from vitlab.studies.executors.shipping import is_here, shipped, unpack
from vitlab.studies.unit import start

NEWS_SECONDS = 1.0  # between two reports of a run
POLL_SECONDS = 0.05
SAVE_SECONDS = 60.0  # for a run to save its state
KILL_SECONDS = 120.0  # Slurm kills what it has sent SIGTERM after 30 s, unless a site gives more
SOURCES = (".py", ".c", ".h", ".toml")

Versions = dict[str, str]
News = dict[str, Any]


@cache
def versions() -> Versions:
    """What must be the same everywhere: vitlab, with the digest of its source, and torch."""
    package = Path(__file__).parents[2]
    found = sorted(path for path in package.rglob("*") if path.suffix in SOURCES)
    digest = files.sha256(b"".join(path.read_bytes() for path in found))
    return {"vitlab": f"{__version__} (source {digest[:8]})", "torch": metadata.version("torch").split("+")[0]}


def difference(node: str, there: Versions, here: Versions) -> str:
    """What a node has other than the study's machine, in a line; empty if nothing."""
    other = [name for name in here if here[name] != there.get(name)]
    theirs, ours = (" and ".join(f"{name} {found.get(name)}" for name in other) for found in (there, here))
    advice = "install the same versions on all nodes; finished runs are kept"
    return f"node {node} has {theirs}, but this machine has {ours}: {advice}" if other else ""


def with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run that starts from another working folder."""
    from vitlab.runs.session import absolute, absolute_rehearsal  # torch, which a node's own process does not need

    made = RunConfig.from_dict(config)
    return made.with_knobs(data=absolute(made.data.data), rehearse=absolute_rehearsal(made)).to_dict()


def node_name() -> str:
    """What this node is called in the lines of a study."""
    return socket.gethostname().split(".")[0]


def ray_node_name() -> str:
    """The same with the start of the node's id in its Ray cluster, because a machine may hold several nodes."""
    ray: Any = import_module("ray")
    return f"{node_name()} ({ray.get_runtime_context().get_node_id()[:4]})"


def look_around(marker: str | None) -> tuple[Versions, bool]:
    """This node's versions, and whether it sees a file of the study's machine."""
    return versions(), marker is None or os.path.exists(marker)


def save(process: subprocess.Popen[bytes]) -> int:
    """Make a unit save its state and end, if it still runs, by closing its standard input; its exit code. A signal
    would be the second one if the engine has sent one too, and that ends a run at once."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(SAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Station:
    """An actor of Ray: one run on a node, that reports how far it is. Every method answers with news, as a dict:

    ``refused``: why this node cannot be used; ``wants``: whether it needs the images, which `bring` brings; ``node``:
    its name; ``code``: how the run has ended, or None; ``output``: all that it has said, at its end; ``epochs`` that
    are done; ``changed`` and ``names``: the files of its run folder for `follow`, unless all machines share the folder.
    """

    def __init__(self) -> None:
        self.name = ray_node_name()
        self.process: subprocess.Popen[bytes] | None = None
        self.temporary: tempfile.TemporaryDirectory[str] | None = None

    def begin(
        self,
        config: dict[str, Any],
        threads: int,
        data_sha256: str | None,
        here: Versions,
        folder: str | None,
        state: Mapping[str, bytes],
    ) -> News:
        """Start the run, or continue it from ``state``, the files of its folder; ``here``: the versions of the study's
        machine; ``folder``: the one to train in, instead, if all machines share it."""
        refused = difference(self.name, versions(), here)
        if refused:
            return {"refused": refused}
        self.config, self.threads, self.data_sha256 = config, threads, data_sha256
        self.temporary = tempfile.TemporaryDirectory(prefix="vitlab-", ignore_cleanup_errors=True)
        self.is_shared, self.sent = folder is not None, Marks()
        self.folder = Path(folder) if folder else Path(self.temporary.name) / "run"
        if not self.is_shared:
            follow(self.folder, state, state)
            self.sent = marks(self.folder)
        self.log = Path(self.temporary.name) / "log.txt"
        self.place = shipped(config["data"]["data"], data_sha256)
        if self.place is None and not is_here(config["data"]["data"]):
            return {"wants": True}
        return self.start()

    def bring(self, references: list[Any]) -> News:
        """Take the images that the node lacks, by Ray's references to their pieces (none: the study's machine lacks
        them too), and start the run."""
        if references and self.data_sha256 is not None:
            data, get = self.config["data"]["data"], import_module("ray").get
            unpack(data, self.data_sha256, map(get, references), again=self.place is not None)
            self.place = shipped(data, self.data_sha256)
        return self.start()

    def start(self) -> News:
        """Start the process."""
        with open(self.log, "wb") as output:
            self.process = start(
                self.config, self.folder, self.threads, output, self.data_sha256, data=self.place, allow_drift=True
            )
        return self.news(0.0)

    def news(self, seconds: float = NEWS_SECONDS) -> News:
        """How far the run is, after ``seconds`` or as soon as it has ended."""
        until = time.monotonic() + seconds
        assert self.process is not None
        while (code := self.process.poll()) is None and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        epochs = epochs_done(self.folder)
        told: News = {"code": code, "epochs": epochs, "node": self.name}
        if not self.is_shared:
            changed, self.sent = changes(self.folder, self.sent)
            told |= {"changed": changed, "names": list(self.sent)}
        if code is not None:
            told["output"] = self.log.read_bytes()
        return told

    def stop(self) -> News:
        """Make the run save its state and end; no files if it has not begun."""
        if self.process is None:
            return {"code": -signal.SIGTERM, "output": b""}
        save(self.process)
        return self.news()

    def leave(self) -> None:
        """Delete what this node need not keep."""
        if self.temporary is not None:
            self.temporary.cleanup()


RUNNING: list[subprocess.Popen[bytes]] = []  # what this process trains


def train_there(
    config: dict[str, Any], folder: str, log: str, threads: int, data_sha256: str | None, here: Versions
) -> News:
    """On a node that shares its files with the study's machine: train in ``folder``, and write to ``log``. The exit
    code, or why this node cannot be used (``refused``).

    SIGTERM makes the run save its state; then this waits for its end, which Slurm brings about.
    """
    refused = difference(node_name(), versions(), here)
    if refused:
        return {"refused": refused}
    try:
        files.write_bytes(node_file(log), node_name().encode())
        with files.open_log(Path(log)) as output:
            process = start(config, Path(folder), threads, output, data_sha256, allow_drift=True)
    except VitlabError as error:
        return {"code": error.exit_code, "output": str(error)}
    except OSError as error:
        return {"code": VitlabError.exit_code, "output": str(error)}
    RUNNING.append(process)
    asked = []

    def on_term(signum: int, frame: FrameType | None) -> None:
        asked.append(signum)
        assert process.stdin is not None
        process.stdin.close()

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
        until = time.monotonic() + KILL_SECONDS
        while asked and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return {"code": process.returncode}
    finally:
        save(process)
        signal.signal(signal.SIGTERM, before)


def again(*arguments: Any) -> Any:
    """submitit calls this when the job's time is over or its node is wanted: the run saves its state, and the same call
    is queued again."""
    helpers: Any = import_module("submitit.helpers")
    for process in RUNNING:
        save(process)
    files.remove(node_file(arguments[2]))
    return helpers.DelayedSubmission(train_there, *arguments)


train_there.checkpoint = again  # type: ignore[attr-defined]


def node_file(log: str | os.PathLike[str]) -> Path:
    """Where the name of the node on which a run with this log runs is written."""
    return Path(log).with_suffix(".node")
