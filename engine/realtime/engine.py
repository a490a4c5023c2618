"""Realtime engine: what vLLM's speech route asks in place of its engine client.

The route never asks for an adapter. This adds the one that the session's model was resolved to.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from engine.realtime.session import current_session
from engine.realtime.transcription import Transcription
from engine.types import AdapterVersion


class Engine(Protocol):
    """vLLM's, as far as the route uses it."""

    def generate(self, prompt: Any, **asked: Any) -> AsyncGenerator[Any, None]: ...

    async def abort(self, request_id: str) -> None: ...


class RealtimeEngine:
    """`handle_of`: the engine's name for an adapter."""

    def __init__(self, engine: Engine, handle_of: Callable[[AdapterVersion], object]) -> None:
        self._engine = engine
        self._handle_of = handle_of

    async def abort(self, request_id: str) -> None:
        await self._engine.abort(request_id)

    async def generate(
        self, prompt: AsyncGenerator[Any, None], **asked: Any
    ) -> AsyncGenerator[Any, None]:
        """A failure of ours ends it without an error: the session writes its last event."""
        if (session := current_session()) is None:
            raise RuntimeError("the route was reached without the gateway")
        async with session.transcription() as transcription:
            await transcription.begin()
            if (version := transcription.request.version) is not None:
                asked["lora_request"] = self._handle_of(version)
            heard = _until_it_ends(prompt, transcription)
            async with aclosing(self._engine.generate(heard, **asked)) as outputs:
                async for output in outputs:
                    yield output
            transcription.check_not_cut()


async def _until_it_ends(
    prompt: AsyncIterator[Any], transcription: Transcription
) -> AsyncGenerator[Any, None]:
    """The parts of the prompt, which vLLM takes from a generator only."""
    async for part in prompt:
        yield part
    transcription.input_has_ended = True
