"""Slurm's commands for one machine: sbatch, srun, sacct, scancel and scontrol, as far as submitit uses them.

    python toy_slurm.py COMMAND FOLDER WORDS...

In FOLDER, "calls" lists the calls of sbatch; JOB.state, JOB.pid, JOB.requeue and JOB.out belong to each task of a job.
A task that was requeued starts again when its process has ended, as on a real cluster.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")
KILL_WAIT = 3.0  # seconds between SIGTERM and SIGKILL; Slurm gives 30


def install(folder: Path) -> Path:
    """Scripts for all commands, in a folder for PATH; their state is in ``folder`` / "state"."""
    made, state = folder / "bin", folder / "state"
    for path in (made, state):
        path.mkdir(parents=True)
    for name in COMMANDS:
        script = made / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" {name} "{state}" "$@"\n')
        script.chmod(0o755)
    return made


def sbatch(state: Path, script: str) -> None:
    """Start the tasks of a job, each with a keeper."""
    text = Path(script).read_text()
    with open(state / "calls", "a") as file:
        file.write(text.replace("\n", "\\n") + "\n")
    job = 16 + (state / "calls").read_text().count("\n")
    array = re.search(r"#SBATCH --array=0-(\d+)", text)
    for task in range(int(array[1]) + 1) if array else [None]:
        name = str(job) if task is None else f"{job}_{task}"
        (state / f"{name}.state").write_text("PENDING")
        own = {"SLURM_JOB_ID": str(job)}
        if task is not None:
            own |= {"SLURM_ARRAY_JOB_ID": str(job), "SLURM_ARRAY_TASK_ID": str(task)}
        words = [sys.executable, "-S", __file__, "keep", str(state), name, script]
        with open(state / f"{name}.out", "ab") as out:
            subprocess.Popen(
                words, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
    print(f"Submitted batch job {job}")


def keep(state: Path, name: str, script: str) -> None:
    """Run a task, again and again while it is requeued."""
    while True:
        (state / f"{name}.state").write_text("RUNNING")
        code = subprocess.run(["bash", script], check=False).returncode
        if not (state / f"{name}.requeue").exists():
            break
        (state / f"{name}.requeue").unlink()
    if (state / f"{name}.state").read_text() == "RUNNING":
        (state / f"{name}.state").write_text("FAILED" if code else "COMPLETED")


def srun(state: Path, *words: str) -> None:
    """Become the program, and note its process."""
    start = next(n for n, word in enumerate(words) if word.startswith(("/", "python")) and not word.endswith(".out"))
    job, task = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID")
    (state / f"{job if task is None else f'{job}_{task}'}.pid").write_text(str(os.getpid()))
    os.execvp(words[start], words[start:])


def sacct(state: Path, *words: str) -> None:
    """The states of all jobs."""
    print("JobID|State|NodeList")
    for path in state.glob("*.state"):
        print(f"{path.stem}|{path.read_text()}|toy")


def scancel(state: Path, name: str, option: str = "", number: str = "") -> None:
    """Send a signal, or end a task for good."""
    process = int((state / f"{name}.pid").read_text())
    if option:
        os.kill(process, getattr(signal, number if number.startswith("SIG") else f"SIG{number}"))
        return
    (state / f"{name}.state").write_text("CANCELLED by 0")
    os.kill(process, signal.SIGTERM)
    if os.fork() == 0:
        time.sleep(KILL_WAIT)
        os.kill(process, signal.SIGKILL)


def scontrol(state: Path, action: str, name: str) -> None:
    """Note that a task is to start again."""
    (state / f"{name}.{action}").touch()


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
