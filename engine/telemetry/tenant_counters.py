"""Tenant counters: tokens and slot-seconds of each tenant, for charge-back."""

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from engine.telemetry.request_counters import TOKEN_KINDS
from registry.telemetry.label_limit import OTHER_ADAPTERS, LabelLimit


class TenantCounters:
    """Tenants' labels are limited as adapters' are. Exist from the start, so that they read 0."""

    def __init__(self, max_labels: int, registry: CollectorRegistry) -> None:
        self._labels = LabelLimit(max_labels)
        self._labels.on_new.append(self._add_tenant)
        self._tokens = Counter(
            "adaptry_tenant_tokens",
            "Prompt and generation tokens of the requests of a tenant's keys.",
            ["tenant", "kind"],
            registry=registry,
        )
        self._slot_seconds = Counter(
            "adaptry_tenant_slot_seconds",
            "Time that the requests of a tenant's keys held adapters in GPU slots.",
            ["tenant"],
            registry=registry,
        )
        self._add_tenant(OTHER_ADAPTERS)

    @property
    def collectors(self) -> tuple[Collector, ...]:
        return self._tokens, self._slot_seconds

    def _add_tenant(self, tenant: str) -> None:
        for kind in TOKEN_KINDS:
            self._tokens.labels(tenant, kind)
        self._slot_seconds.labels(tenant)

    def count_tokens(self, tenant: str, prompt: int, generation: int) -> None:
        label = self._labels.of(tenant)
        self._tokens.labels(label, "prompt").inc(prompt)
        self._tokens.labels(label, "generation").inc(generation)

    def count_slot_seconds(self, tenant: str, seconds: float) -> None:
        self._slot_seconds.labels(self._labels.of(tenant)).inc(seconds)
