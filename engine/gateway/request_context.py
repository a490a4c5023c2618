"""Request context: the adapter that the running request named, its lease, failure and headers.

Stored in a context variable. vLLM's routes find the adapter through `RequestedAdapters`, which
replaces their own table, and the engine client takes the lease through `RequestLeases`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from engine.cache.lease import NULL_WAIT
from engine.errors import (
    AdapterForcedOut,
    EngineError,
    EngineUnavailable,
    GenerationIncomplete,
)
from engine.gateway.shared_lease import SharedLease
from engine.telemetry.spans import NULL_SPANS, RequestSpans
from engine.trace.recorder import EndedRequest
from engine.types import AdapterVersion, Lease, WorkTotals
from registry.auth.caller import current_caller
from registry.rates.caller_rates import RequestRates

AdapterHandle = TypeVar("AdapterHandle")  # the engine's name for an adapter

SAY_WHY_THEY_END = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", "/v1/chat/completions/batch"),
        *("/invocations", "/inference/v1/generate"),
    }
)
"""Routes whose answers say why they ended, by a `finish_reason`."""
TRANSLATED = "adaptry.translated"
"""In the scope of a request whose client reads its answer in words that have no `abort`."""

_UNQUOTED = " !#$&'()*+,/:;=?@[]^`{|}<>\"\\"


@dataclass(slots=True)
class RequestContext:
    """One HTTP request that may reach the engine. `version` None: it is for the base model.

    `has_invocation`: whether its prompts have that of its activated adapter; None: not known.
    `is_reported`: its answer is an unexpected error that has its id already. `is_admitted`: one of
    its prompts may enter the engine. `asks_within`: its route sends requests within the server, in
    place of asking the engine. `asks_base`: its route asks the base model what it needs to know
    before it asks the adapter.
    `background`: its outcome, once the work is done that goes on behind its answer.
    `fails_if_cut`: its route gets an error in place of what there is, which it would store as if it
    were whole.
    `cut`: its outcome, if the engine's work on it was ended from outside: `failed` by an operator,
    who evicted its adapter by force or paused the engine; `cancelled` by its id.
    `arrived_at`: when its body was complete, in seconds since 1970, as on vLLM's clock.
    """

    requested: str | None
    version: AdapterVersion | None
    spans: RequestSpans = NULL_SPANS
    arrived_at: float = field(default_factory=time.time)
    lease: Lease | None = None
    failure: EngineError | None = None
    shared_lease: SharedLease | None = None
    on_lease: Callable[[], None] | None = None
    rates: RequestRates | None = None
    is_reported: bool = False
    is_admitted: bool = False
    asks_within: bool = False
    asks_base: bool = False
    fails_if_cut: bool = False
    cut: str | None = None
    has_invocation: bool | None = None
    background: "asyncio.Future[str] | None" = None
    work: WorkTotals | None = None  # of all its prompts, once one is admitted

    def waiting(self, version: AdapterVersion) -> AbstractContextManager[Callable[[Lease], None]]:
        """See `LeaseListener`."""
        return NULL_WAIT if self.spans is NULL_SPANS else self._traced_wait(version)

    @contextmanager
    def _traced_wait(self, version: AdapterVersion) -> Iterator[Callable[[Lease], None]]:
        with self.spans.slot_wait_span(version) as wait:
            yield wait.record_lease

    def why_cut(self, unavailable: EngineUnavailable | None) -> EngineError:
        """What its client is told, whose answer does not say it."""
        if self.cut == "cancelled":
            return GenerationIncomplete()
        if unavailable is not None:
            return unavailable
        if self.version is None:
            return GenerationIncomplete()
        return AdapterForcedOut(self.version.reference)

    def on_refused(self, error: EngineError) -> None:
        self.failure = error

    def on_leased(self, lease: Lease) -> None:
        """The first lease is reported, if it takes several one after the other."""
        if self.lease is None:
            self.lease = lease
            self._report_head()

    def on_invocation(self, found: bool) -> None:
        """Whether a prompt invokes the activated adapter. Of several prompts, all have to."""
        is_first = self.has_invocation is None
        self.has_invocation = found and self.has_invocation is not False
        if is_first:
            self._report_head()

    def _report_head(self) -> None:
        if self.on_lease is not None and self.is_head_final:
            self.on_lease()

    @property
    def is_head_final(self) -> bool:
        """Leased; of an activated adapter, the tokens of a prompt are known too."""
        if self.lease is None:
            return False
        return self.has_invocation is not None or self.lease.version.invocation_tokens is None

    def seconds(self) -> float:
        """Since it arrived; 0 if the clock was set back."""
        return max(time.time() - self.arrived_at, 0.0)

    def ended(self, outcome: str) -> EndedRequest:
        """Its line in the trace."""
        tenant, seconds = current_caller().tenant, self.seconds()
        return EndedRequest(
            self.arrived_at, self.version, tenant, self.lease, self.work, outcome, seconds
        )

    def detach(self) -> None:
        """After the response: what refers back to this must not keep it for the collector."""
        self.shared_lease = self.on_lease = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The version that responds, the tier it was found in, and the milliseconds of its load.

        Empty without a lease: then no version has responded.
        """
        if self.lease is None:
            return []
        version = self.lease.version
        headers = [
            (b"x-adaptry-version", version.reference.encode()),
            (b"x-adaptry-cache", self.lease.outcome.encode()),
            (b"x-adaptry-load-ms", b"%.1f" % (self.lease.load_seconds * 1000)),
        ]
        if self.has_invocation is not None:
            found = b"found" if self.has_invocation else b"missing"
            headers.append((b"x-adaptry-invocation", found))
        if version.deprecated_at is not None:
            deprecation = deprecation_headers(version).items()
            headers += [(name.encode(), value.encode()) for name, value in deprecation]
        return headers


def when_worked(request: RequestContext | None, end: Callable[[], None]) -> None:
    """Call it once the work behind the answer has ended, also if the request's own task was
    cancelled before; immediately if there is none.
    """
    if request is None or request.background is None or request.background.done():
        end()
    else:
        request.background.add_done_callback(lambda _: end())


def deprecation_headers(version: AdapterVersion) -> dict[str, str]:
    """`deprecation` by RFC 9745, a date in seconds, and the reason; empty if it is not deprecated.

    The reason is percent-encoded where a header could not hold it.
    """
    if version.deprecated_at is None:
        return {}
    headers = {"deprecation": f"@{version.deprecated_at}"}
    if version.deprecation_reason:
        headers["x-adaptry-deprecation"] = quote(version.deprecation_reason, safe=_UNQUOTED)
    return headers


_current: ContextVar[RequestContext | None] = ContextVar("adaptry_request", default=None)


set_request, reset_request = _current.set, _current.reset
"""Which request runs in this task, until it is reset. A block of `contextlib` takes 2 µs longer."""
current_request: Callable[[], RequestContext | None] = _current.get
"""The request that this task serves, if it came through the gateway."""


@contextmanager
def base_question() -> Iterator[None]:
    """What the running request's route asks the engine in the block is asked of the base model."""
    request = _current.get()
    if request is None:
        yield
        return
    request.asks_base = True
    try:
        yield
    finally:
        request.asks_base = False


def requested_adapter() -> str | None:
    """The reference that the running request names, if that is an adapter."""
    request = _current.get()
    return request.requested if request and request.version else None


class RequestedAdapters(Mapping[str, AdapterHandle]):
    """The adapters that vLLM's routes can see: only the one that the running request named.

    Replaces `OpenAIServingModels.lora_requests`, where every route looks adapters up.
    """

    def __init__(self, handle_of: Callable[[AdapterVersion], AdapterHandle]) -> None:
        self._handle_of = handle_of

    def __contains__(self, name: object) -> bool:
        return name is not None and name == requested_adapter()

    def __getitem__(self, name: str) -> AdapterHandle:
        request = _current.get()
        if request is None or request.version is None or request.requested != name:
            raise KeyError(name)
        return self._handle_of(request.version)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
