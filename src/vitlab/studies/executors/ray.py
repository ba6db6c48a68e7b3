"""Runs as tasks of a Ray cluster: a configuration goes there, the files of a run folder come back.

The only file that imports ray. Ray itself restarts what a dying worker or node has lost; on this machine the driver
remains the only writer. Ray has no authentication: use it only in networks that you trust.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.errors import ConfigError, VitlabError, import_optional, pip_install
from vitlab.studies.unit import Ending, Unit, start

ANSWER_SECONDS = 5.0
# config.json comes last: with it the folder is a run.
RETURNED = ("model.safetensors", "history.jsonl", "environment.json", "data.json", "result.json", "config.json")


class RayExecutor:
    """Runs on the cluster at ``address``, each with ``cpus`` cores (and as many threads) and ``gpus`` GPUs."""

    def __init__(self, address: str, cpus: int, gpus: int) -> None:
        self.ray, self.cpus = connect(address), cpus
        wanted = {"CPU": cpus, "GPU": gpus}
        offered = self.ray.cluster_resources()
        self.slots = int(min(offered.get(kind, 0) // number for kind, number in wanted.items() if number))
        if not self.slots:
            self.ray.shutdown()
            has = ", ".join(f"{offered.get(kind, 0):g} {kind}" for kind in wanted)
            raise ConfigError(f"a run needs {cpus} CPU and {gpus} GPU, but the Ray cluster has {has}; lower --threads")
        self.task = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(run_there)
        self.running: dict[Any, Unit] = {}

    def begin(self, unit: Unit) -> None:
        """Submit the unit to the cluster."""
        self.running[self.task.remote(unit.config, self.cpus, unit.data_sha256)] = unit

    def ended(self, seconds: float) -> list[Ending]:
        """The units that have ended since the last call, after writing their files here; waits at most ``seconds``."""
        if not self.running:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        also, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return [self.receive(reference) for reference in dict.fromkeys([*ready, *also])]

    def receive(self, reference: Any) -> Ending:
        """Write what a task returned; a task that Ray gave up counts as crashed."""
        unit = self.running.pop(reference)
        try:
            code, output, returned = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            code, output, returned = VitlabError.exit_code, f"Ray: {error}".encode(), {}
        files.write_bytes(unit.log, output)
        files.make_folder(unit.folder)
        for name in RETURNED:
            if name in returned:
                files.write_bytes(unit.folder / name, returned[name])
        return Ending(unit, code)

    def stop(self) -> None:
        """Cancel the running units, which start from the beginning next time, and leave the cluster."""
        for reference in self.running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference, force=True)
        self.running = {}
        self.ray.shutdown()


def connect(address: str) -> Any:
    """The module ray, connected; ConfigError if it is not installed or no cluster answers."""
    missing = ConfigError(f"--executor ray needs Ray, which is not installed: {pip_install('ray')}")
    ray: Any = import_optional("ray", missing)
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdigit():  # Ray itself would try for a minute
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
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


def run_there(config: dict[str, Any], threads: int, data_sha256: str | None) -> tuple[int, bytes, dict[str, bytes]]:
    """On a node of the cluster: train the configuration in a process, if the node's images have the digest; its exit
    code, its output, its files."""
    with tempfile.TemporaryDirectory(prefix="vitlab-") as name:
        folder, log = Path(name) / "run", Path(name) / "log.txt"
        with open(log, "wb") as output:
            code = start(config, folder, threads, output, data_sha256).wait()
        returned = {name: (folder / name).read_bytes() for name in RETURNED if (folder / name).exists()}
        return code, log.read_bytes(), returned
