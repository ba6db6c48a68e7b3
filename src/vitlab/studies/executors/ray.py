"""A Ray cluster: one task for each unit. What goes there is a configuration, what comes back are a run folder's files.

The only file that imports ray. Ray itself starts again what a dying worker or node has lost; the driver stays the only
writer on this machine. Ray has no authentication: use it in networks that you trust.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.errors import ConfigError, VitlabError
from vitlab.studies.executors import Ending, Unit
from vitlab.studies.executors.local import share

ANSWER_SECONDS = 5.0
# config.json comes last: with it the folder is a run.
RETURNED = ("model.safetensors", "history.jsonl", "environment.json", "data.json", "result.json", "config.json")
Answer = tuple[int, bytes, dict[str, bytes]]


class RayExecutor:
    """Units on the cluster at ``address``, each with ``cpus`` cores (as many threads) and ``gpus`` GPUs."""

    def __init__(self, address: str, cpus: int, gpus: int) -> None:
        self.ray, self.cpus = connect(address), cpus
        wanted = {"CPU": cpus, "GPU": gpus}
        there = self.ray.cluster_resources()
        self.slots = int(min(there.get(kind, 0) // number for kind, number in wanted.items() if number))
        if not self.slots:
            self.ray.shutdown()
            have = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in wanted)
            raise ConfigError(f"a run needs {cpus} CPU and {gpus} GPU, but the Ray cluster has {have}; lower --threads")
        self.task = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(run_there)
        self.running: dict[Any, Unit] = {}

    def begin(self, unit: Unit) -> None:
        """Hand the unit to the cluster."""
        self.running[self.task.remote(json.dumps(share(unit.config, self.cpus)))] = unit

    def ended(self, seconds: float) -> list[Ending]:
        """Those that have ended, with their files written here."""
        if not self.running:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        also, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return [self.receive(reference) for reference in dict.fromkeys([*ready, *also])]

    def receive(self, reference: Any) -> Ending:
        """Write what a task returned; a task that Ray gave up is one that crashed."""
        unit = self.running.pop(reference)
        try:
            code, said, returned = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            code, said, returned = VitlabError.exit_code, f"Ray: {error}".encode(), {}
        files.write_bytes(unit.log, said)
        files.make_folder(unit.folder)
        for name in RETURNED:
            if name in returned:
                files.write_bytes(unit.folder / name, returned[name])
        return Ending(unit, code)

    def stop(self) -> None:
        """Cancel what is running, which begins anew next time, and leave the cluster."""
        for reference in self.running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference, force=True)
        self.running = {}
        self.ray.shutdown()


def connect(address: str) -> Any:
    """The module ray, connected; ConfigError if it is not installed or no cluster answers."""
    try:
        import ray
    except ImportError:
        raise ConfigError("--executor ray needs Ray, which is not installed: pip install 'vitlab[ray]'") from None
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
            f"no Ray cluster answers at --address {address} ({why}); `ray start --head` makes one"
        ) from None
    return ray


def run_there(config: str) -> Answer:
    """On a node of the cluster: the run in a process of its own; exit code, what it said, its files."""
    with tempfile.TemporaryDirectory(prefix="vitlab-") as name:
        folder, log = Path(name) / "run", Path(name) / "log.txt"
        with open(log, "wb") as said:
            words = [sys.executable, "-m", "vitlab.studies.unit", str(folder)]
            threads = str(json.loads(config)["machine"]["threads"])
            environment = os.environ | {"OMP_NUM_THREADS": threads}
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment)
            assert process.stdin is not None
            process.stdin.write(config.encode() + b"\n")
            process.stdin.flush()  # and stays open: the run ends when this worker dies
            code = process.wait()
        returned = {name: (folder / name).read_bytes() for name in RETURNED if (folder / name).exists()}
        return code, log.read_bytes(), returned
