"""Runs on a Ray cluster: a configuration and the state of a run go to a node, the files of its run folder come back.

While a run trains, each of its checkpoints arrives here (or stays in a folder that all
machines share), so when a node dies, its runs continue elsewhere from their last ones. On this machine the driver
remains the only writer. Ray has no authentication: use it only in networks that you trust.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.errors import (
    ConfigError,
    DataError,
    OutOfMemoryError,
    RunInUseError,
    VitlabError,
    import_optional,
    pip_install,
)
from vitlab.studies.executors.follow import changes, epochs_done, follow, newest_checkpoint
from vitlab.studies.executors.node import (
    SAVE_SECONDS,
    News,
    Station,
    difference,
    look_around,
    versions,
    with_absolute_paths,
)
from vitlab.studies.executors.shipping import is_here, pack
from vitlab.studies.unit import Ending, Unit, Whereabouts

ANSWER_SECONDS = 5.0
SURVEY_SECONDS = 60.0  # for all nodes to say which versions they have
CAPACITY_SECONDS = 1.0  # between two looks at which nodes there are


@dataclass
class Post:
    """A unit on the cluster: the actor that has it, what it was asked last, and where it is. ``held`` keeps its run
    folder locked."""

    unit: Unit
    actor: Any
    asked: Any
    held: ExitStack
    node: str = ""
    epochs: int = 0
    has_images: bool = False


class RayExecutor:
    """Runs on the cluster at ``address``, each with ``cpus`` cores (and as many threads) and ``gpus`` GPUs.

    ``storage``: a folder that all machines share, for runs in progress; without one their checkpoints travel here.
    """

    def __init__(self, address: str, cpus: int, gpus: int, storage: Path | None = None) -> None:
        self.ray, self.cpus, self.gpus = connect(address), cpus, gpus
        self.storage = None if storage is None else storage.absolute()
        self.posts: list[Post] = []
        self.busy: list[Unit] = []  # their run folders are in use by another process
        self.images: dict[str, list[Any]] = {}  # the pieces of each data set that a node has wanted
        self.counted_at, self.capacity = float("-inf"), 0
        try:
            self.here = versions()
            self.check_size()
            self.survey()
        except BaseException:
            self.ray.shutdown()
            raise
        self.kind = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(Station)

    @property
    def slots(self) -> int:
        """How many runs fit on the nodes that there are now; at least one, which then waits for a node."""
        if time.monotonic() - self.counted_at > CAPACITY_SECONDS:
            self.counted_at, self.capacity = time.monotonic(), sum(map(self.fit_on, self.nodes()))
        return max(1, self.capacity)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    def fit_on(self, node: dict[str, Any]) -> int:
        """How many runs fit on a node."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return int(min(node["Resources"].get(kind, 0) // number for kind, number in wanted.items() if number))

    def check_size(self) -> None:
        """ConfigError if no node is large enough for a run."""
        nodes = self.nodes()
        if not any(map(self.fit_on, nodes)):
            kinds = ("CPU", "GPU")
            most = [max((node["Resources"].get(kind, 0) for node in nodes), default=0) for kind in kinds]
            has = ", ".join(f"{number:g} {kind}" for number, kind in zip(most, kinds, strict=True))
            needs = f"a run needs {self.cpus} CPU and {self.gpus} GPU on one node"
            raise ConfigError(f"{needs}, but the Ray cluster has at most {has} on one; lower --threads")

    def survey(self) -> None:
        """ConfigError unless all nodes have this machine's versions and see its storage."""
        if self.storage is not None:
            files.make_folder(self.storage)
        marker = None if self.storage is None else self.storage / f".{secrets.token_hex(6)}.tmp"
        if marker is not None:
            files.write_bytes(marker, b"")
        try:
            strategies: Any = import_module("ray.util.scheduling_strategies")
            task, asked = self.ray.remote(num_cpus=0, max_retries=1)(look_around), {}
            for node in filter(self.fit_on, self.nodes()):
                place = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked[task.options(scheduling_strategy=place).remote(marker and str(marker))] = node[
                    "NodeManagerHostname"
                ]
            self.ray.wait(list(asked), num_returns=len(asked), timeout=SURVEY_SECONDS)
            for reference, name in asked.items():
                self.check_answer(reference, name)
        finally:
            if marker is not None:
                files.remove(marker)

    def check_answer(self, reference: Any, name: str) -> None:
        """ConfigError unless a node has answered well."""
        try:
            there, sees_storage = self.ray.get(reference, timeout=0)
        except self.ray.exceptions.GetTimeoutError:
            raise ConfigError(f"node {name} does not answer; remove it from the Ray cluster") from None
        except self.ray.exceptions.RayError as error:
            why = [line for line in str(error).splitlines() if line.strip()][-1].strip()
            raise ConfigError(
                f"node {name} cannot load vitlab ({why}); install the same versions on all nodes"
            ) from None
        if refused := difference(name, there, self.here):
            raise ConfigError(refused)
        if not sees_storage:
            raise ConfigError(f"node {name} does not see {self.storage}; --storage takes a folder that all nodes share")

    def begin(self, unit: Unit) -> None:
        """Send the unit to the cluster, with the state of its run if there is one."""
        held = ExitStack()
        try:
            files.make_folder(unit.folder)
            held.enter_context(files.locked(unit.folder, f"{unit.folder} is in use"))
        except RunInUseError:
            self.busy.append(unit)
            return
        actor, shared = self.kind.remote(), self.storage and self.storage / unit.folder.name
        state, _ = changes(unit.folder, {})
        if shared:
            if (newest_checkpoint(unit.folder) or "") > (newest_checkpoint(shared) or ""):
                follow(shared, state, state)
            state = {}
        config, place = with_absolute_paths(unit.config), shared and str(shared)
        asked = actor.begin.remote(config, self.cpus, unit.data_sha256, self.here, place, state)
        self.posts.append(Post(unit, actor, asked, held))

    def ended(self, seconds: float) -> list[Ending]:
        """The units that have ended since the last call, with their files on this disk; waits at most ``seconds``.
        ConfigError if one has come to a node with other versions."""
        endings = [Ending(unit, RunInUseError.exit_code) for unit in self.busy]
        self.busy = []
        until = time.monotonic() + seconds
        while self.posts and not endings and (left := until - time.monotonic()) > 0:
            asked = [post.asked for post in self.posts]
            ready, _ = self.ray.wait(asked, timeout=left, fetch_local=False)
            also, _ = self.ray.wait(asked, num_returns=len(asked), timeout=0, fetch_local=False)
            for post in [post for post in self.posts if post.asked in (*ready, *also)]:
                ending = self.receive(post)
                if ending is not None:
                    endings.append(ending)
                    self.posts.remove(post)
        return endings

    def receive(self, post: Post) -> Ending | None:
        """Take what a node answers, and ask again; the ending if the unit has ended."""
        unit, errors = post.unit, self.ray.exceptions
        try:
            news: News = self.ray.get(post.asked)
        except errors.RayTaskError as error:  # raised there
            code = getattr(error.cause, "exit_code", VitlabError.exit_code)
            return self.finish(post, Ending(unit, code), str(error.cause).encode())
        except errors.OutOfMemoryError as error:
            return self.finish(post, Ending(unit, OutOfMemoryError.exit_code), str(error).encode())
        except errors.RayError as error:
            lost = f"its node {post.node} is lost" if post.node else "its node is lost"
            return self.finish(post, Ending(unit, VitlabError.exit_code, lost), f"Ray: {error}".encode())
        if "refused" in news:
            raise ConfigError(news["refused"])
        if "wants" in news:
            self.bring(post)
            return None
        self.take(post, news)
        if news["code"] is None:
            post.asked = post.actor.news.remote()
            return None
        if news["code"] == DataError.exit_code and not post.has_images and self.pieces(unit):
            self.bring(post)
            return None
        return self.finish(post, Ending(unit, news["code"]), news["output"])

    def bring(self, post: Post) -> None:
        """Send images to a node that has none, or others."""
        post.has_images = True
        post.asked = post.actor.bring.remote(self.pieces(post.unit))

    def pieces(self, unit: Unit) -> list[Any]:
        """References to the images of a unit, for whoever asks; none if this machine does not have them."""
        data = unit.config["data"]["data"]
        if data not in self.images:
            try:
                made = pack(data) if unit.data_sha256 is not None and is_here(data) else ()
                self.images[data] = [self.ray.put(piece) for piece in made]
            except (DataError, OSError):
                self.images[data] = []
        return self.images[data]

    def take(self, post: Post, news: News) -> None:
        """Write what has changed in a run folder."""
        post.node, post.epochs = news["node"], news["epochs"]
        if "changed" in news:
            follow(post.unit.folder, news["changed"], news["names"])

    def finish(self, post: Post, ending: Ending, output: bytes) -> Ending:
        """Write the output of a unit, fetch its files from the storage, and let its actor go."""
        unit = post.unit
        with post.held:
            files.write_bytes(unit.log, output)
            if self.storage is not None:
                self.fetch(unit, self.storage / unit.folder.name)
        with suppress(self.ray.exceptions.RayError):
            post.actor.leave.remote()
        return ending

    def fetch(self, unit: Unit, shared: Path) -> None:
        """Copy a run from the storage, and delete it there unless it is to go on."""
        changed, found = changes(shared, {})
        if not found:
            return
        follow(unit.folder, changed, found)
        if "result.json" in found:
            shutil.rmtree(shared, ignore_errors=True)

    def where(self) -> dict[str, Whereabouts]:
        """Where each unit is."""
        found = {}
        for post in self.posts:
            shared = self.storage and self.storage / post.unit.folder.name
            epochs = epochs_done(shared) if shared and post.node else post.epochs
            found[post.unit.name] = Whereabouts(post.node, "" if post.node else "a node", epochs)
        return found

    def stop(self) -> None:
        """Make the running units save their state, fetch it, and leave the cluster."""
        stopping = {post.actor.stop.remote(): post for post in self.posts if post.node}  # the others wait for a node
        if stopping:
            self.ray.wait(list(stopping), num_returns=len(stopping), timeout=SAVE_SECONDS, fetch_local=False)
        for reference, post in stopping.items():
            with suppress(self.ray.exceptions.RayError, VitlabError), post.held:
                for news in self.ray.get([post.asked, reference], timeout=ANSWER_SECONDS):  # each has its own changes
                    if "changed" in news:
                        follow(post.unit.folder, news["changed"], news["names"])
                if self.storage is not None:
                    self.fetch(post.unit, self.storage / post.unit.folder.name)
        self.posts = []
        self.ray.shutdown()


def connect(address: str) -> Any:
    """The module ray, connected; ConfigError if it is not installed or no cluster answers."""
    missing = ConfigError(f"--executor ray needs Ray, which is not installed: {pip_install('ray')}")
    ray: Any = import_optional("ray", missing)
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdigit():  # Ray itself would try for a minute
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        # Else it prints the log of each node that dies, to standard output. The name is private, so it may go.
        import_module("ray._private.worker")._worker_logs_enabled = False  # type: ignore[attr-defined]
        passed = {name: os.environ[name] for name in ("VITLAB_DATA", "VITLAB_CACHE") if name in os.environ}
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            ignore_reinit_error=True,
            runtime_env={"env_vars": passed},
        )
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"no Ray cluster answers at --address {address} ({why}); `ray start --head` starts one"
        ) from None
    return ray
