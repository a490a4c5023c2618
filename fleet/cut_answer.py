"""Cut answer: how a client learns that the rest of an answer will not come."""

from collections.abc import Sequence

from starlette.types import Message

from engine.errors import EngineError
from engine.gateway.openai_errors import end_of_stream, send_refusal
from registry.http.headers import is_event_stream


async def end_answer(
    error: EngineError, path: str, head: Message | None, last: bytes = b""
) -> Sequence[Message]:
    """The messages that end it. `head`: how the answer started, if it did; `last`: its last part.

    Raises ConnectionAbortedError for a body of declared length: its connection has to be cut.
    """
    if head is None:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await send_refusal(collect, error, path=path)
        return messages
    if not is_event_stream(head):
        raise ConnectionAbortedError(error.detail)
    return [{"type": "http.response.body", "body": end_of_stream(error, path, last)}]
