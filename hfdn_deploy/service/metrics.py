"""The service's metrics for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from hfdn_deploy.service.batcher import Upscaled
from hfdn_deploy.service.models import Model

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_MODEL = ("scale", "precision")


class Metrics:
    """The metrics of one service, in their own registry."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "hfdn_requests", "Answers of /v1/upscale by status", ["status"], registry=registry
        )
        self._images = Counter("hfdn_images", "Images upscaled", _MODEL, registry=registry)
        self._pixels = Counter("hfdn_output_pixels", "Output pixels", _MODEL, registry=registry)
        self._waited = Histogram(
            "hfdn_queue_seconds", "Time in the queue", buckets=_SECONDS, registry=registry
        )
        self._took = Histogram(
            "hfdn_upscale_seconds", "Time of an image's batch", _MODEL, buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._batch = Histogram(
            "hfdn_batch_images", "Size of an image's batch", buckets=(1, 2, 4, 8, 16),
            registry=registry,
        )  # fmt: skip

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read on each scrape."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def answered(self, path: str, status: int) -> None:
        """Count an answer of /v1/upscale; answers of other paths are not counted."""
        if path == "/v1/upscale":
            self._requests.labels(status).inc()

    def upscaled(self, model: Model, result: Upscaled) -> None:
        """Count an upscaled image."""
        labels = model.scale, model.precision
        self._images.labels(*labels).inc()
        self._pixels.labels(*labels).inc(result.image.shape[0] * result.image.shape[1])
        self._waited.observe(result.waited)
        self._took.labels(*labels).observe(result.took)
        self._batch.observe(result.batch)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
