"""Request counters: outcomes, durations, tokens and refusals of generation requests."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.registry import Collector

from engine.errors import engine_codes
from engine.types import CacheOutcome
from registry.telemetry.error_codes import OTHER_CODES, registry_codes
from registry.telemetry.label_limit import OTHER_ADAPTERS, UNKNOWN_ADAPTER, LabelLimit

REQUEST_OUTCOMES = ("completed", "refused", "failed", "cancelled")
TOKEN_KINDS = ("prompt", "generation")
REFUSAL_CODES = registry_codes() | engine_codes()

_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class _OfAdapter:
    """Children of the metrics for one label, found once: each request uses them all."""

    requests: dict[str, Counter]  # by outcome
    seconds: Histogram
    prompt_tokens: Counter
    generated_tokens: Counter
    shared_prefix: Counter


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
        self._first_token_seconds_of = {
            outcome: self._first_token_seconds.labels(outcome) for outcome in CacheOutcome
        }
        self._of_label: dict[str, _OfAdapter] = {}
        labels.on_new.append(self._add_adapter)
        self._add_adapter(OTHER_ADAPTERS)
        self._requests.labels(UNKNOWN_ADAPTER, "refused")

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
        self._of_label[adapter] = _OfAdapter(
            {outcome: self._requests.labels(adapter, outcome) for outcome in REQUEST_OUTCOMES},
            self._request_seconds.labels(adapter),
            self._tokens.labels(adapter, "prompt"),
            self._tokens.labels(adapter, "generation"),
            self._shared_prefix.labels(adapter),
        )

    def _of(self, adapter: str) -> _OfAdapter:
        """A label is never taken away, so one that is known needs no look at the limit."""
        return self._of_label.get(adapter) or self._of_label[self._labels.of(adapter)]

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        """Count one HTTP request. `outcome` is one of REQUEST_OUTCOMES."""
        if adapter == UNKNOWN_ADAPTER:
            self._requests.labels(adapter, outcome).inc()
            return
        counters = self._of(adapter)
        counters.requests[outcome].inc()
        if outcome == "completed":
            counters.seconds.observe(seconds)

    def count_refusal(self, code: str) -> None:
        """Count one HTTP request that was answered with one of our errors."""
        self._refusals.labels(code if code in REFUSAL_CODES else OTHER_CODES).inc()

    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None:
        """Observe the time from an engine request to its first token."""
        self._first_token_seconds_of[outcome].observe(seconds)

    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None:
        """Count the tokens of one engine request, at its end."""
        counters = self._of(adapter)
        counters.prompt_tokens.inc(prompt)
        counters.generated_tokens.inc(generation)

    def count_shared_prefix(self, adapter: str, tokens: int) -> None:
        """Count what one request for an activated adapter found computed before its invocation."""
        self._of(adapter).shared_prefix.inc(tokens)
