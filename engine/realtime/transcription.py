"""Transcription: one generation of a realtime session, which is what a request is over HTTP.

The adapter is resolved when it begins and leased while the engine works on it. It counts against
its caller's limits, and is counted at its end.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import Message

from engine.errors import (
    EngineError,
    EngineSuspended,
    EngineUnavailable,
    GenerationIncomplete,
)
from engine.gateway.in_flight import InFlight, RequestLimit
from engine.gateway.middleware import RequestCounter
from engine.gateway.request_context import RequestContext
from engine.gateway.unknown_model import as_model_error
from engine.ports import Resolver
from engine.realtime.events import ends_transcription, error_message, is_error, with_headers
from engine.telemetry.spans import NULL_SPANS, RequestSpans, Tracing
from engine.trace.recorder import RequestTrace
from engine.types import AdapterVersion
from registry.auth.caller import current_check
from registry.errors import InternalError, RegistryError
from registry.rates.caller_rates import RequestRates
from registry.redaction import mask_keys


@dataclass(frozen=True, slots=True)
class Controls:
    """What a session's events, and a transcription at its begin and end, have to pass."""

    resolver: Resolver
    counter: RequestCounter
    in_flight: RequestLimit
    unavailable: Callable[[], EngineUnavailable | None]
    trace: RequestTrace
    tracing: Tracing
    max_values: int  # in one event

    async def resolve(
        self, model: str, draw: Callable[[], str], spans: RequestSpans = NULL_SPANS
    ) -> AdapterVersion:
        """Raises RegistryError, as clients of vLLM's routes know it."""
        try:
            with spans.resolve_span():
                return await self.resolver.resolve(model, draw)
        except RegistryError as refused:
            raise as_model_error(refused, model) from None


class Transcription:
    """`model` None: it is for the base model. `rates`: its caller's, if there are any.

    `is_first`: of its session, which its caller's limits have counted as a request already.
    `spans`: its own, within the trace that its session came with.
    """

    def __init__(
        self,
        controls: Controls,
        model: str | None,
        draw: Callable[[], str],
        rates: RequestRates | None,
        spans: RequestSpans,
        *,
        is_first: bool,
    ) -> None:
        self._controls = controls
        self._draw = draw
        self._is_first = is_first
        self._rates = rates
        self._in_flight: InFlight | None = None
        self._is_named = False
        self.request = RequestContext(model, None, spans, rates=rates)
        self.refusal: EngineError | RegistryError | None = None
        self.input_has_ended = False

    @property
    def failure(self) -> EngineError | RegistryError | None:
        return self.refusal or self.request.failure

    async def begin(self) -> None:
        """Raises EngineError and RegistryError."""
        why = self._controls.unavailable()
        if why is not None and not isinstance(why, EngineSuspended):
            raise why
        await current_check()()
        if self._rates is not None:
            if not self._is_first:
                await self._rates.take("requests", 1)
            await self._rates.take("tokens", 1)
            self._rates.count("tokens", 0)
        self._in_flight = self._controls.in_flight.begin()
        self._in_flight.begin_answer()  # it waits for speech, and not for the engine
        if (model := self.request.requested) is not None:
            spans = self.request.spans
            self.request.version = await self._controls.resolve(model, self._draw, spans)
            spans.record_version(self.request.version)

    def fail(self, error: EngineError | RegistryError) -> None:
        """It becomes the transcription's last event."""
        self.refusal = error
        self._controls.counter.count_refusal(error.code)

    def explain(self, error: Exception) -> bool:
        """Whether it comes from one of ours, or the engine has ended. vLLM reports all others."""
        cause = error.__cause__ if isinstance(error.__cause__, EngineError) else None
        reason = self._why_cut() or self.request.failure or cause or self._controls.unavailable()
        if reason is not None:
            self.fail(reason)
        return reason is not None

    def check_not_cut(self) -> None:
        """Raises EngineError if this server has ended it, which vLLM's route would call done."""
        if (why := self._why_cut()) is not None:
            raise why

    def _why_cut(self) -> EngineError | None:
        unavailable = self._controls.unavailable
        return self.request.why_cut(unavailable()) if self.request.cut == "failed" else None

    async def end(self, error: BaseException | None) -> None:
        if self._in_flight is not None:
            self._in_flight.end()
        try:
            self._count(error)
        finally:
            if self._rates is not None:
                await self._rates.settle()

    def _count(self, error: BaseException | None) -> None:
        request, outcome = self.request, self._outcome(error)
        request.spans.record_response(None, self._code_of(outcome))
        if request.version is None and not request.is_admitted:
            return
        end = request.ended(outcome)
        if request.version is not None:
            adapter = request.version.adapter
            self._controls.counter.count_request(adapter, outcome, end.seconds)
        self._controls.trace.add_request(end)

    def _outcome(self, error: BaseException | None) -> str:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "cancelled"
        if (failure := self.failure) is not None:
            return "failed" if (failure.status or 500) >= 500 else "refused"
        return "failed" if error is not None else self.request.cut or "completed"

    def _code_of(self, outcome: str) -> str | None:
        """As the span of a request over HTTP has it."""
        if outcome == "completed":
            return None
        if outcome == "cancelled":
            return outcome
        if self.failure is not None:
            return self.failure.code
        return InternalError.code if self.request.cut is None else GenerationIncomplete.code

    def complete_event(self, message: Message) -> Message:
        """An event of this transcription, as the client gets it: the first one that is none of an
        error names the version.
        """
        text: str = message["text"]
        if self.failure is not None and ends_transcription(text):
            return error_message(self.failure)
        if is_error(text):
            return {**message, "text": mask_keys(text.encode()).decode()}
        headers = [] if self._is_named else self.request.headers()
        self._is_named = True
        return {**message, "text": with_headers(text, headers)} if headers else message


_transcription: ContextVar[Transcription | None] = ContextVar("adaptry_speech", default=None)


set_transcription = _transcription.set
current_transcription: Callable[[], Transcription | None] = _transcription.get
"""The one that this task generates; None in the task that reads what the client sends."""
