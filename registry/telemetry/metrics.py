"""Counters and histograms of the registry; the database's counts are in `gauges`."""

from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from registry.database.observer import CommittedRow, Operation
from registry.errors.access import KeyRefusal, Limit
from registry.ingest.outcome import IngestOutcome, outcome_of
from registry.models import Event, EventKind, Version, VersionState
from registry.models.job import UNFINISHED, Job, JobState
from registry.telemetry.error_codes import OTHER_CODES, registry_codes
from registry.telemetry.label_limit import OTHER_ADAPTERS, LabelLimit

_DATABASE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_INGEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

ALIAS_ACTIONS = {
    EventKind.ALIAS_MOVED: "moved",
    EventKind.ALIAS_SPLIT: "split",
    EventKind.ALIAS_DELETED: "deleted",
}
INGEST_OUTCOMES = tuple(sorted(set(JobState) - UNFINISHED))
DELIVERY_OUTCOMES = ("delivered", "failed")


class RegistryMetrics:
    """Counts what this process does. Implements `DatabaseObserver`.

    Other servers on the same database count their own work.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        codes: frozenset[str] = frozenset(),
        max_tenant_labels: int = 100,
    ) -> None:
        """`codes`: error codes from outside the registry."""
        self._tenants = LabelLimit(max_tenant_labels)
        self._tenants.on_new.append(self._add_tenant)
        self._registry = registry
        self._codes = registry_codes() | codes
        self._alias_moves = self._counter(
            "adaptry_alias_moves", "Changes of where an alias points.", "action"
        )
        self._ingests = self._counter(
            "adaptry_ingest_ended", "Registrations that came to an end.", "outcome"
        )
        self._ingest_seconds = Histogram(
            "adaptry_ingest_seconds",
            "Time from the request of a registration until its end.",
            buckets=_INGEST_BUCKETS,
            registry=registry,
        )
        self._ingest_bytes = self._counter(
            "adaptry_ingest_bytes", "Bytes that registrations had fetched when they ended."
        )
        self._rejections = self._counter(
            "adaptry_rejections", "Registrations that failed, by the problem's code.", "code"
        )
        self._quarantines = self._counter(
            "adaptry_quarantines", "Versions taken out of service, by the reason's code.", "code"
        )
        self._deliveries = self._counter(
            "adaptry_webhook_deliveries", "Attempts to deliver a webhook's message.", "outcome"
        )
        self._key_refusals = self._counter(
            "adaptry_key_refusals", "Requests refused for their API key, by reason.", "reason"
        )
        self._database_seconds = Histogram(
            "adaptry_database_seconds",
            "Time that the database was in use for one operation.",
            ["operation"],
            buckets=_DATABASE_BUCKETS,
            registry=registry,
        )
        self._database_errors = self._counter(
            "adaptry_database_errors",
            "Operations that failed because of a database outage.",
        )
        self._tenant_refusals = self._counter(
            "adaptry_tenant_refusals",
            "Requests that were refused because their tenant was at one of its limits.",
            "tenant",
            "limit",
        )
        self._rates_alone = self._counter(
            "adaptry_rates_counted_alone",
            "Requests whose rates this server counted alone: what it shares with others was away.",
        )
        self._history_dropped = self._counter(
            "adaptry_cache_history_dropped",
            "Records of the cache's history that were lost, as the database did not take them.",
        )
        self._create_children()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _create_children(self) -> None:
        """Create series at the start, so that they read 0; not by code, which are too many."""
        for action in ALIAS_ACTIONS.values():
            self._alias_moves.labels(action)
        for outcome in INGEST_OUTCOMES:
            self._ingests.labels(outcome)
        for attempt in DELIVERY_OUTCOMES:
            self._deliveries.labels(attempt)
        for refusal in KeyRefusal:
            self._key_refusals.labels(refusal)
        for operation in Operation:
            self._database_seconds.labels(operation)
        self._add_tenant(OTHER_ADAPTERS)

    def _add_tenant(self, tenant: str) -> None:
        for limit in Limit:
            self._tenant_refusals.labels(tenant, limit)

    def close(self) -> None:
        """Unregister all series, so that another server can be started in this process."""
        for collector in (
            self._alias_moves,
            self._ingests,
            self._ingest_seconds,
            self._ingest_bytes,
            self._rejections,
            self._quarantines,
            self._deliveries,
            self._key_refusals,
            self._database_seconds,
            self._database_errors,
            self._tenant_refusals,
            self._rates_alone,
            self._history_dropped,
        ):
            self._registry.unregister(collector)

    def on_ingest_outcome(self, end: IngestOutcome) -> None:
        """Count one registration, whether it was a job or not."""
        self._ingests.labels(end.outcome).inc()
        self._ingest_seconds.observe(end.seconds)
        self._ingest_bytes.inc(end.size_bytes)
        if end.outcome is JobState.FAILED:
            self._rejections.labels(self._code(end.code)).inc()

    def on_tenant_refusal(self, tenant: str, limit: Limit) -> None:
        """Count one request; tenants' labels are limited as adapters' are."""
        self._tenant_refusals.labels(self._tenants.of(tenant), limit).inc()

    def on_rate_counted_alone(self) -> None:
        """Count one take of a limit that is shared with other servers, and could not be."""
        self._rates_alone.inc()

    def on_history_dropped(self, records: int) -> None:
        """Count records of the cache's history that were lost."""
        self._history_dropped.inc(records)

    def on_webhook_attempt(self, delivered: bool) -> None:
        """Count one attempt to deliver a message."""
        self._deliveries.labels("delivered" if delivered else "failed").inc()

    def on_key_refusal(self, refusal: KeyRefusal) -> None:
        """Count one request with a refused key."""
        self._key_refusals.labels(refusal).inc()

    def _code(self, code: str | None) -> str:
        """The code as a label from a closed set: operators may quarantine with any code."""
        return code if code in self._codes else OTHER_CODES

    # ---- DatabaseObserver ----------------------------------------------------------------

    def on_session_end(self, operation: Operation, seconds: float) -> None:
        self._database_seconds.labels(operation).observe(seconds)

    def on_failure(self) -> None:
        self._database_errors.inc()

    def on_commit(self, rows: Sequence[CommittedRow]) -> None:
        for row in rows:
            match row:
                case Event():
                    if (action := ALIAS_ACTIONS.get(EventKind(row.kind))) is not None:
                        self._alias_moves.labels(action).inc()
                case Version():
                    if row.state == VersionState.QUARANTINED:
                        self._quarantines.labels(self._code(row.state_code)).inc()
                case Job():
                    if (end := outcome_of(row)) is not None:
                        self.on_ingest_outcome(end)
