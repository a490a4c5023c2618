"""Events of a realtime session: the ones that are read, and the ones that are written or completed.

An event is one JSON object in one message. vLLM writes `type` as its first member.
"""

import json
from typing import Any

from starlette.types import Message

from engine.errors import EngineError
from registry.errors import RegistryError
from registry.redaction import redact

_UPDATE = "session.update"
_ERROR = '{"type":"error"'
_DONE = '{"type":"transcription.done"'


def read_update(text: str) -> dict[str, Any] | None:
    """A `session.update` that names a model; None: another event, or vLLM says what is wrong.

    Audio is not parsed to find out: base64 has no backslash, and without one the type stands there
    as it is.
    """
    if _UPDATE not in text and "\\" not in text:
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("type") != _UPDATE:
        return None
    return event if isinstance(event.get("model"), str) else None


def received(event: dict[str, Any]) -> Message:
    return {"type": "websocket.receive", "text": json.dumps(event)}


def error_message(error: EngineError | RegistryError) -> Message:
    """As vLLM writes its own."""
    content = {"type": "error", "error": redact(error.detail), "code": error.code}
    return {"type": "websocket.send", "text": json.dumps(content)}


def is_error(text: str) -> bool:
    return text.startswith(_ERROR)


def ends_transcription(text: str) -> bool:
    return text.startswith((_ERROR, _DONE))


def with_headers(text: str, headers: list[tuple[bytes, bytes]]) -> str:
    """The event, with what a response would have in its head."""
    named = {name.decode(): value.decode() for name, value in headers}
    return f'{text[:-1]},"headers":{json.dumps(named)}}}'
