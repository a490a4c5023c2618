"""What a request's spans are made through; and the way to make none, which costs next to nothing.

A trace has `adaptry.request` and below it `adaptry.resolve`, `adaptry.slot_wait`, `adaptry.load`,
`adaptry.activate` and `adaptry.generate`. None of them carries anything of a prompt or an answer.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from starlette.types import Scope

from engine.types import AdapterVersion, Lease

Headers = Mapping[str, str]


class SlotWait(Protocol):
    def record_lease(self, lease: Lease) -> None:
        """The wait is over, and well."""


class RequestSpans(Protocol):
    """The spans of one request."""

    def resolve_span(self) -> AbstractContextManager[object]: ...

    def record_version(self, version: AdapterVersion) -> None:
        """What the reference was resolved to."""

    def slot_wait_span(self, version: AdapterVersion) -> AbstractContextManager[SlotWait]:
        """Until the adapter is leased; its load and its activation belong to this wait."""

    def generate_span(self) -> AbstractContextManager[Headers | None]:
        """The headers put vLLM's own span below this one."""

    def record_response(self, status: int | None, code: str | None) -> None:
        """Status of the response, if there was one; code of the problem, if it is ours."""


class Tracing(Protocol):
    def request(self, scope: Scope) -> AbstractContextManager[RequestSpans]:
        """One HTTP request, within the trace that its client began, if it did."""


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
    """Where no OTLP endpoint is configured."""

    def request(self, scope: Scope) -> AbstractContextManager[RequestSpans]:
        return _NO_REQUEST


_NOTHING: AbstractContextManager[None] = nullcontext()
_NO_WAIT: AbstractContextManager[SlotWait] = nullcontext(_NullSlotWait())
NULL_SPANS: RequestSpans = _NullSpans()
_NO_REQUEST: AbstractContextManager[RequestSpans] = nullcontext(NULL_SPANS)
