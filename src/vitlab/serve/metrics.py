"""Counts for operators, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts of one server; any thread may count."""

    def __init__(self) -> None:
        # For the whole process; otherwise every count has a second line with its start time.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "vitlab_requests_total", "Answers by route and status.", ["route", "status"], registry=own
        )
        self.refused = Counter("vitlab_refused_total", "Requests refused at a limit.", ["reason"], registry=own)
        self.left = Counter("vitlab_left_total", "Clients that left before their answer.", registry=own)
        self.seconds = Histogram("vitlab_request_seconds", "Time to the answer.", buckets=SECONDS, registry=own)
        self.batches = Histogram("vitlab_batch_images", "Images in a batch.", buckets=SIZES, registry=own)
        self.queue = Gauge("vitlab_queue", "Requests accepted and not yet answered.", ["model"], registry=own)
        self.connections = Gauge("vitlab_connections", "Open connections.", registry=own)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A response has begun, ``seconds`` after the request's headers were read."""
        self.requests.labels(route, status).inc()
        self.seconds.observe(seconds)

    def text(self) -> bytes:
        """The page that /metrics shows."""
        return generate_latest(self.registry)
