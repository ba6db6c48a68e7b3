"""`vitlab serve` under load, over loopback only, for a few minutes.

    python -m benchmarks.serve_load runs/NAME --out FILE

For each run: its capacity (closed loop, 64 clients); then an open loop at that rate and at four times it, with the
share that is refused, how soon, and what is still answered. For the first run: different MNIST test images from 64
clients at once against the answers of each image alone; the server stopped under load again and again, with what was
accepted and stayed unanswered; and the server's memory while pictures are sent that are made to need much of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve_clients import Tally, Wire, load, predict_request
from benchmarks.serve_process import ServerProcess, stop_under_load
from benchmarks.timing import carry_out, markdown, options
from vitlab import Classifier
from vitlab.config import MachineConfig
from vitlab.data import load_dataset
from vitlab.errors import VitlabError
from vitlab.machine import choose_machine, environment
from vitlab.runs.session import origin

CLIENTS = 64
MORE_CLIENTS = 400  # at four times the capacity: enough that a slow answer holds up no other request
TIMES = (1, 4)
AGREE = 1e-5  # by how much a probability may differ from that of the image alone: float32 in another order


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    seconds = 1.0 if arguments.quick else arguments.seconds
    pictures = test_pictures(100 if arguments.quick else arguments.images)
    found: dict[str, Any] = {
        "environment": environment(machine) | origin(),
        "settings": {"seconds": seconds, "clients": CLIENTS, "more_clients": MORE_CLIENTS, "quick": arguments.quick},
        "note": "clients and server shared the machine's cores with each other and with other work",
    }
    found["overload"] = {run.name: overload(run, pictures, seconds) for run in arguments.runs}
    first = arguments.runs[0]
    found["answers"] = compare_answers(first, pictures)
    found["stops"] = stop_often(first, pictures, 2 if arguments.quick else arguments.stops)
    found["memory"] = watch_memory(first, pictures)
    return found


def test_pictures(count: int) -> list[bytes]:
    """The first MNIST test images, all different, as PNG files."""
    images = load_dataset("mnist").test
    if images is None:
        raise VitlabError("MNIST has no test images here")
    distinct = list(dict.fromkeys(as_png(image[..., 0]) for image in images.images[: 2 * count]))
    return distinct[:count]


def as_png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """A grey image as a file."""
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def overload(run: Path, pictures: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Capacity, then the same rate and four times it."""
    with ServerProcess(str(run)) as server:
        port = server.port()
        requests = [predict_request(port, picture) for picture in pictures]
        load(port, requests, CLIENTS, seconds / 4)  # warm
        closed = summary(load(port, requests, CLIENTS, seconds), seconds)
        say(f"{run.name}: capacity {closed['answers_per_second']:.0f} answers/s")
        found: dict[str, Any] = {"closed loop": closed}
        for times in TIMES:
            rate = closed["answers_per_second"] * times
            tally = load(port, requests, CLIENTS if times == 1 else MORE_CLIENTS, seconds, rate)
            found[f"{times}x"] = {"offered_per_second": rate} | summary(tally, seconds)
            say(f"{run.name}: {times}x {found[f'{times}x']}")
        code = server.stop()
    goodput = [found[f"{times}x"]["answers_per_second"] for times in TIMES]
    return found | {"goodput_4x_over_1x": goodput[1] / goodput[0], "exit_code": code}


def summary(tally: Tally, seconds: float) -> dict[str, Any]:
    """Rates and times of what came back; times in milliseconds, from when a request was due."""
    good, refused = tally.of_status(200), tally.of_status(503)
    last = max((answer[2] - tally.start for answer in tally.answers), default=seconds)
    others = sorted({status for *_, status in tally.answers} - {200, 503})
    return {
        "answers_per_second": len(good) / max(seconds, last),
        "answered": len(good),
        "refused": len(refused),
        "refused_share": len(refused) / max(1, len(tally.answers)),
        "other_statuses": others,
        "unanswered": len(tally.unanswered),
        "answer_ms": percentiles([ended - due for due, _, ended, _ in good]),
        "answer_ms_from_sending": percentiles([ended - began for _, began, ended, _ in good]),
        "refusal_ms_from_sending": percentiles([ended - began for _, began, ended, _ in refused]),
    }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50 and p99 in milliseconds."""
    if not values:
        return None
    middle, high = np.percentile(np.array(values) * 1e3, [50, 99])
    return {"p50": round(float(middle), 2), "p99": round(float(high), 2)}


def compare_answers(run: Path, pictures: Sequence[bytes]) -> dict[str, Any]:
    """Each picture once, from many clients at once, against what the classifier says of it alone."""
    classifier = Classifier.load(run)
    expected = [{x.name: x.probability for x in classifier(picture, top=10)} for picture in pictures]
    wrong: list[int] = []
    largest = [0.0]

    def check(number: int, status: int, body: bytes) -> None:
        picture = number % len(pictures)
        labels = {x["name"]: x["probability"] for x in json.loads(body)["labels"]} if status == 200 else {}
        best = max(expected[picture], key=lambda name: expected[picture][name])
        difference = max((abs(expected[picture][n] - p) for n, p in labels.items()), default=1.0)
        largest[0] = max(largest[0], difference)
        if not labels or next(iter(labels)) != best or difference > AGREE:
            wrong.append(picture)

    with ServerProcess(str(run), "--queue", "1000") as server:
        port = server.port()
        requests = [predict_request(port, picture, "?top=10") for picture in pictures]
        tally = load(port, requests, CLIENTS, 60.0, check=check, most=len(pictures))
        batches = metric(port, "vitlab_batch_images_count")
        server.stop()
    say(f"answers: {len(tally.answers)} in {batches:.0f} batches, wrong {len(wrong)}")
    return {
        "images": len(set(pictures)),
        "answers": len(tally.answers),
        "wrong": len(wrong),
        "largest_difference_of_a_probability": largest[0],
        "mean_batch": round(len(tally.answers) / batches, 2),
    }


def metric(port: int, name: str) -> float:
    """One number of /metrics."""
    wire = Wire(port)
    _, body = wire.ask(f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    wire.close()
    return next(float(line.split()[1]) for line in body.decode().splitlines() if line.startswith(f"{name} "))


def stop_often(run: Path, pictures: Sequence[bytes], times: int) -> dict[str, Any]:
    """SIGTERM under load, again and again: what was accepted and not answered."""
    unanswered, codes, took, answers = 0, [], [], 0
    for number in range(times):
        with ServerProcess(str(run)) as server:
            port = server.port()
            requests = [predict_request(port, picture) for picture in pictures]
            code, tally, seconds = stop_under_load(port, server, requests, CLIENTS, 0.3 + 0.05 * number)
        unanswered += len(tally.unanswered) + len(tally.answers) - len(tally.of_status(200))
        answers += len(tally.answers)
        codes.append(code)
        took.append(round(seconds, 2))
        say(f"stop {number + 1}: exit code {code}, {len(tally.answers)} answers, unanswered {tally.unanswered}")
    return {
        "stops": times,
        "answered": answers,
        "accepted_and_unanswered": unanswered,
        "exit_codes": sorted(set(codes)),
        "seconds_to_the_end": {"median": float(np.median(took)), "max": max(took)},
    }


def watch_memory(run: Path, pictures: Sequence[bytes]) -> dict[str, Any]:
    """Resident memory of the server: idle, under ordinary load, and while pictures come that need much."""
    from benchmarks.serve_bombs import bombs

    with ServerProcess(str(run)) as server:
        port = server.port()
        found: dict[str, Any] = {"after_start_mib": server.memory()["now"]}
        load(port, [predict_request(port, picture) for picture in pictures], CLIENTS, 2.0)
        server.forget_peak()
        load(port, [predict_request(port, picture) for picture in pictures], CLIENTS, 2.0)
        found["peak_under_load_mib"] = server.memory()["peak"]
        for name, files in bombs().items():
            server.forget_peak()
            tally = load(port, [predict_request(port, data) for data in files], 16, 5.0)
            statuses = sorted({status for *_, status in tally.answers})
            found[name] = {"files": len(files), "sent": len(tally.answers), "statuses": statuses} | {
                "peak_mib": round(server.memory()["peak"], 1),
                "unanswered": len(tally.unanswered),
            }
        found["in_the_end_mib"] = server.memory()["now"]
        server.stop()
    say(f"memory: {found}")
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in found.items()}


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def report(measured: dict[str, Any]) -> str:
    """Tables."""
    head = ["run", "load", "offered/s", "answers/s", "answer p50 ms", "p99 ms", "refused", "refusal p50 / p99 ms"]
    rows = []
    for run, found in measured["overload"].items():
        for name in ("closed loop", *(f"{n}x" for n in TIMES)):
            part = found[name]
            refusal = part["refusal_ms_from_sending"]
            offered = f"{part['offered_per_second']:,.0f}" if "offered_per_second" in part else ""
            times = [f"{part['answer_ms'][name]:,.0f}" for name in ("p50", "p99")]
            refusals = "" if refusal is None else f"{refusal['p50']:,.0f} / {refusal['p99']:,.0f}"
            share = f"{100 * part['refused_share']:.1f} %"
            rows.append([f"`{run}`", name, offered, f"{part['answers_per_second']:,.0f}", *times, share, refusals])
    answers, stops, memory = measured["answers"], measured["stops"], measured["memory"]
    peaks = ", ".join(
        f"{name}: {memory[name]['peak_mib']:.0f} MiB" for name in memory if isinstance(memory[name], dict)
    )
    goodput = ", ".join(f"{100 * x['goodput_4x_over_1x']:.0f} % (`{n}`)" for n, x in measured["overload"].items())
    return "\n".join(
        [
            markdown(head, rows),
            "",
            "Times of answers count from the moment at which a request was due, those of refusals from sending.",
            f"Answers at four times the capacity, as a share of those at once: {goodput}.",
            f"Wrong answers: {answers['wrong']} of {answers['answers']:,} answers to {answers['images']:,} different "
            "images, "
            f"{answers['mean_batch']} images in a batch on average.",
            f"Accepted and unanswered over {stops['stops']} stops under load: {stops['accepted_and_unanswered']}; "
            f"{stops['seconds_to_the_end']['median']} s from SIGTERM to the end (at most "
            f"{stops['seconds_to_the_end']['max']} s).",
            f"Memory: {memory['after_start_mib']:.0f} MiB after the start, {memory['peak_under_load_mib']:.0f} under "
            f"load; peaks while such pictures come from 16 clients: {peaks}.",
            f"{measured['environment']['device_name']}, {measured['environment']['started_utc'][:10]}; "
            f"{measured['note']}.",
        ]
    )


def main() -> int:
    """Measure and keep, or show what was kept."""
    parser = options(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="finished runs on mnist")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load [6]")
    parser.add_argument("--images", type=int, default=2000, help="different images [2000]")
    parser.add_argument("--stops", type=int, default=20, help="under load [20]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
