"""Request counters: outcomes, durations, tokens and refusals of generation requests."""

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.registry import Collector

from engine.errors import engine_codes
from engine.types import CacheOutcome
from registry.telemetry.error_codes import OTHER_CODES, registry_codes
from registry.telemetry.label_children import LabelChildren
from registry.telemetry.label_limit import OTHER_ADAPTERS, UNKNOWN_ADAPTER, LabelLimit

REQUEST_OUTCOMES = ("completed", "refused", "failed", "cancelled")
TOKEN_KINDS = ("prompt", "generation")
REFUSAL_CODES = registry_codes() | engine_codes()

_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RequestCounters:
    """Label children exist from the start, so that series read 0. Codes are too many for that."""

    def __init__(self, labels: LabelLimit, registry: CollectorRegistry) -> None:
        self._labels = labels
        self._requests = Counter(
            "adaptry_requests",
            "Generation requests that named an adapter, by how they ended.",
            ["adapter", "outcome"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "adaptry_request_seconds",
            "Time from the complete request body to the complete response.",
            ["adapter"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._first_token_seconds = Histogram(
            "adaptry_first_token_seconds",
            "Time from the complete request body to the first token.",
            ["result"],
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "adaptry_tokens",
            "Prompt and generation tokens of engine requests.",
            ["adapter", "kind"],
            registry=registry,
        )
        self._shared_prefix = Counter(
            "adaptry_shared_prefix_tokens",
            "Prompt tokens before the invocation of an activated adapter that were found computed.",
            ["adapter"],
            registry=registry,
        )
        self._refusals = Counter(
            "adaptry_refusals",
            "Generation requests answered with one of our errors, by its code.",
            ["code"],
            registry=registry,
        )
        self._requests_of = LabelChildren(self._requests)
        self._request_seconds_of = LabelChildren(self._request_seconds)
        self._first_token_seconds_of = LabelChildren(self._first_token_seconds)
        self._tokens_of = LabelChildren(self._tokens)
        self._shared_prefix_of = LabelChildren(self._shared_prefix)
        for outcome in CacheOutcome:
            self._first_token_seconds_of.of(outcome)
        labels.on_new.append(self._add_adapter)
        self._add_adapter(OTHER_ADAPTERS)
        self._requests_of.of(UNKNOWN_ADAPTER, "refused")

    @property
    def collectors(self) -> tuple[Collector, ...]:
        return (
            self._requests,
            self._request_seconds,
            self._first_token_seconds,
            self._tokens,
            self._shared_prefix,
            self._refusals,
        )

    def _add_adapter(self, adapter: str) -> None:
        for outcome in REQUEST_OUTCOMES:
            self._requests_of.of(adapter, outcome)
        for kind in TOKEN_KINDS:
            self._tokens_of.of(adapter, kind)
        self._request_seconds_of.of(adapter)
        self._shared_prefix_of.of(adapter)

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        label = self._labels.of(adapter)
        self._requests_of.of(label, outcome).inc()
        if outcome == "completed":
            self._request_seconds_of.of(label).observe(seconds)

    def count_refusal(self, code: str) -> None:
        self._refusals.labels(code if code in REFUSAL_CODES else OTHER_CODES).inc()

    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None:
        self._first_token_seconds_of.of(outcome).observe(seconds)

    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None:
        label = self._labels.of(adapter)
        self._tokens_of.of(label, "prompt").inc(prompt)
        self._tokens_of.of(label, "generation").inc(generation)

    def count_shared_prefix(self, adapter: str, tokens: int) -> None:
        self._shared_prefix_of.of(self._labels.of(adapter)).inc(tokens)
