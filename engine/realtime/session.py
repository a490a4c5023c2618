"""Realtime session: one WebSocket, and the model that it has named.

vLLM's route knows the base model only. A name of an adapter is resolved and replaced before the
route reads it, and the engine that the route asks (`engine/realtime/engine.py`) adds the adapter.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from engine.errors import AudioStopped, EngineError
from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.request_context import set_request
from engine.realtime.events import error_message, read_update, received
from engine.realtime.transcription import (
    Controls,
    Transcription,
    current_transcription,
    set_transcription,
)
from engine.telemetry.spans import RequestSpans
from registry.errors import BodyNotText, RegistryError
from registry.http.json_shape import check_json
from registry.rates.caller_rates import RequestRates

_CLOSED: Message = {"type": "websocket.disconnect", "code": 1008}


class RealtimeSession:
    """`draw`: what a traffic split draws the version by, the same for the whole session.

    A client that sends nothing for `silence_seconds`, while its transcription waits for audio and
    holds a slot, is disconnected.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        controls: Controls,
        default: DefaultAdapter,
        base_model: str,
        draw: Callable[[], str],
        rates: RequestRates | None,
        silence_seconds: float,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._controls = controls
        self._default = default
        self._base_model = base_model
        self._draw = draw
        self._rates = rates
        self._silence_seconds = silence_seconds
        self._model: str | None = None
        self._running: Transcription | None = None
        self._has_transcribed = self._is_closed = False

    # ---- what the client sends -----------------------------------------------------------------

    async def receive(self) -> Message:
        while True:
            message = await self._next_message()
            if message["type"] != "websocket.receive":
                self._is_closed = message["type"] == "websocket.disconnect"
                return message
            if (passed := await self._read(message)) is not None:
                return passed

    async def _next_message(self) -> Message:
        while True:
            try:
                async with asyncio.timeout(self._silence_seconds):
                    return await self._receive()
            except TimeoutError:
                running = self._running
                if running is None or running.input_has_ended:
                    continue
                await self._send(error_message(AudioStopped(self._silence_seconds)))
                await self._send({"type": "websocket.close", "code": 1008})
                return _CLOSED

    async def _read(self, message: Message) -> Message | None:
        """The message for vLLM's route; None if it was refused."""
        text: str | None = message.get("text")
        try:
            if text is None:
                raise BodyNotText
            await check_json(text.encode("utf-8", "surrogatepass"), self._controls.max_values)
            update = read_update(text)
            return message if update is None else await self._choose(update, message)
        except RegistryError as refused:
            self._controls.counter.count_refusal(refused.code)
            await self._send(error_message(refused))
            return None

    async def _choose(self, update: dict[str, Any], message: Message) -> Message:
        """Raises RegistryError: then the session keeps the model that it had."""
        model = await self._default.adapter_for(update["model"])
        if model is not None:
            await self._controls.resolve(model, self._draw)
            message = received({**update, "model": self._base_model})
        self._model = model
        return message

    # ---- what the engine is asked --------------------------------------------------------------

    @asynccontextmanager
    async def transcription(self) -> AsyncIterator[Transcription]:
        """In its own task, and to be begun in the block. Errors of ours become its last event."""
        with self._controls.tracing.request(self._scope) as spans:
            async with self._transcription(spans) as running:
                yield running

    @asynccontextmanager
    async def _transcription(self, spans: RequestSpans) -> AsyncIterator[Transcription]:
        rates = None if self._rates is None else self._rates.again()
        is_first = not self._has_transcribed
        self._running = running = Transcription(
            self._controls, self._model, self._draw, rates, spans, is_first=is_first
        )
        self._has_transcribed = True
        set_transcription(running)  # never reset: the task ends with it
        set_request(running.request)
        ended_by: BaseException | None = None
        try:
            yield running
        except (EngineError, RegistryError) as error:
            ended_by = error
            running.fail(error)
        except Exception as error:
            ended_by = error
            if not running.explain(error):
                raise
        except BaseException as error:
            ended_by = error
            raise
        finally:
            self._running = None
            await running.end(ended_by)

    def send(self, message: Message) -> Awaitable[None]:
        if self._is_closed:  # vLLM goes on for a moment, and would log a traceback
            return _nothing()
        running = current_transcription()
        if running is not None and message["type"] == "websocket.send":
            message = running.complete_event(message)
        return self._send(message)


async def _nothing() -> None:
    return


_session: ContextVar[RealtimeSession | None] = ContextVar("adaptry_session", default=None)


set_session, reset_session = _session.set, _session.reset
current_session: Callable[[], RealtimeSession | None] = _session.get
