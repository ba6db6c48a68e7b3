"""Counts for operators, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """How many values lay under each bound, and their sum; not for two threads at once."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """The cumulative lines of the text format."""
        lines, seen = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            seen += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {seen}')
        return [*lines, f"{name}_sum {self.total:.6f}", f"{name}_count {seen}"]


class Metrics:
    """Everything that is counted; any thread may count."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.gone = 0
        self.seconds = Histogram(SECONDS)
        self.batches = Histogram(SIZES)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A response of ``status`` has begun, ``seconds`` after the request's headers were read."""
        with self.lock:
            self.requests[route, status] += 1
            self.seconds.add(seconds)

    def refuse(self, reason: str) -> None:
        """A request was refused for a reason that lies in the server's limits."""
        with self.lock:
            self.refused[reason] += 1

    def left(self) -> None:
        """A client left before its answer."""
        with self.lock:
            self.gone += 1

    def batch(self, size: int) -> None:
        """A batch of ``size`` images was classified."""
        with self.lock:
            self.batches.add(size)

    def text(self, queues: dict[str, Callable[[], int]], connections: int) -> str:
        """The whole page; ``queues`` gives each model's requests that wait for their answer."""
        with self.lock:
            lines = [
                "# HELP vitlab_requests_total Answers by route and status.",
                "# TYPE vitlab_requests_total counter",
            ]
            for (route, status), count in sorted(self.requests.items()):
                lines.append(f'vitlab_requests_total{{route="{route}",status="{status}"}} {count}')
            lines += ["# HELP vitlab_refused_total Requests refused at a limit.", "# TYPE vitlab_refused_total counter"]
            lines += [f'vitlab_refused_total{{reason="{reason}"}} {n}' for reason, n in sorted(self.refused.items())]
            lines += [
                "# HELP vitlab_left_total Clients that left before their answer.",
                "# TYPE vitlab_left_total counter",
            ]
            lines += [f"vitlab_left_total {self.gone}"]
            lines += ["# HELP vitlab_request_seconds Time to the answer.", "# TYPE vitlab_request_seconds histogram"]
            lines += self.seconds.lines("vitlab_request_seconds")
            lines += ["# HELP vitlab_batch_images Images in a batch.", "# TYPE vitlab_batch_images histogram"]
            lines += self.batches.lines("vitlab_batch_images")
        lines += ["# HELP vitlab_queue Requests accepted and not answered yet.", "# TYPE vitlab_queue gauge"]
        lines += [f'vitlab_queue{{model="{model}"}} {length()}' for model, length in queues.items()]
        lines += ["# HELP vitlab_connections Open connections.", "# TYPE vitlab_connections gauge"]
        return "\n".join([*lines, f"vitlab_connections {connections}", ""])
