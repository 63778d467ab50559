"""What ``/metrics`` tells, by Prometheus's own library, in a registry of this service alone."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, generate_latest

VERSIONED = tuple(f"/v1/{name}" for name in ("predict", "explain", "read", "pairs", "prompts", "models", "example"))
ROUTES = (*VERSIONED, "/healthz", "/readyz", "/metrics")
"""Paths that are counted by themselves; what others send as a path must not fill the memory."""
METHODS = ("GET", "POST")
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)


class Counts:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter("focus_requests", "Requests by their answer", ["route", "method", "status"], registry=self.registry)
        self._seconds = Histogram("focus_request_seconds", "Time of a request", ["route"], buckets=SECONDS, registry=self.registry)
        self._images = Counter("focus_images", "Images predicted", ["model"], registry=self.registry)
        self._batches = Histogram(
            "focus_batch_images", "Images that went through a network together", ["model"], buckets=(1, 2, 4, 8, 16), registry=self.registry
        )
        self._network = Counter("focus_network_seconds", "Time in which a model was at work", ["model"], registry=self.registry)

    def request(self, path: str, method: str, status: int, seconds: float) -> None:
        """One is done; a status of 0 is a connection that was cut."""
        route = path if path in ROUTES else "other"
        self._requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, model: str, images: int, seconds: float) -> None:
        """So many images went through a model together."""
        self._images.labels(model).inc(images)
        self._batches.labels(model).observe(images)
        self._network.labels(model).inc(seconds)

    def watch(self, name: str, told: str, value: Callable[[], float]) -> None:
        """A number that is asked for when it is shown."""
        Gauge(name, told, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
