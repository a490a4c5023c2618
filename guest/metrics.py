"""Metrics of a guest, in vLLM's own `/metrics`."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from guest.failures import Cause


class GuestMetrics:
    """Every cause is there from the start."""

    def __init__(self, collectors: CollectorRegistry = REGISTRY) -> None:
        self._behind = Gauge(
            "adaptry_guest_behind",
            "Names that can't be brought up to date.",
            ["cause"],
            registry=collectors,
            multiprocess_mode="livesum",  # of each API server of one vLLM
        )
        self._refusals = Counter(
            "adaptry_guest_refusals",
            "Requests for names that could not be resolved, fetched or served.",
            ["cause"],
            registry=collectors,
        )
        for cause in Cause:
            self._refusals.labels(cause)
        self.set_behind(())

    def set_behind(self, causes: Iterable[Cause]) -> None:
        """One for each name."""
        found = Tally(causes)
        for cause in Cause:
            self._behind.labels(cause).set(found[cause])

    def count_refusal(self, cause: Cause) -> None:
        self._refusals.labels(cause).inc()
