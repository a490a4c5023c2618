"""Spans of a request: the interface that creates them, and a null tracer that costs almost nothing.

A trace has `adaptry.request` and below it `adaptry.resolve`, `adaptry.slot_wait`, `adaptry.load`,
`adaptry.activate` and `adaptry.generate`. No span carries any part of a prompt or an answer.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from starlette.types import Scope

from engine.types import AdapterVersion, Lease

Headers = Mapping[str, str]


class SlotWait(Protocol):
    def record_lease(self, lease: Lease) -> None:
        """The wait has ended with a lease."""


class RequestSpans(Protocol):
    """The spans of one request."""

    def resolve_span(self) -> AbstractContextManager[object]: ...

    def record_version(self, version: AdapterVersion) -> None:
        """The version that the reference resolved to."""

    def slot_wait_span(self, version: AdapterVersion) -> AbstractContextManager[SlotWait]:
        """Until the adapter is leased. Its load and activation are attributed to this wait."""

    def generate_span(self) -> AbstractContextManager[Headers | None]:
        """The headers put vLLM's own span below this one."""

    def record_response(self, status: int | None, code: str | None) -> None:
        """Status of the response, if there was one; code of the problem, if it is one of ours."""


class Tracing(Protocol):
    def request(self, scope: Scope) -> AbstractContextManager[RequestSpans]:
        """One HTTP request, or one of a WebSocket, within its client's trace, if it has one."""


class _NullSlotWait:
    def record_lease(self, lease: Lease) -> None:
        return


class _NullSpans:
    def resolve_span(self) -> AbstractContextManager[object]:
        return _NOTHING

    def record_version(self, version: AdapterVersion) -> None:
        return

    def slot_wait_span(self, version: AdapterVersion) -> AbstractContextManager[SlotWait]:
        return _NO_WAIT

    def generate_span(self) -> AbstractContextManager[Headers | None]:
        return _NOTHING

    def record_response(self, status: int | None, code: str | None) -> None:
        return


class NullTracing:
    """Null tracer, used if no OTLP endpoint is configured."""

    def request(self, scope: Scope) -> AbstractContextManager[RequestSpans]:
        return NO_REQUEST


_NOTHING: AbstractContextManager[None] = nullcontext()
_NO_WAIT: AbstractContextManager[SlotWait] = nullcontext(_NullSlotWait())
NULL_SPANS: RequestSpans = _NullSpans()
NO_REQUEST: AbstractContextManager[RequestSpans] = nullcontext(NULL_SPANS)
"""Of a request that is not traced: it need not be entered."""
