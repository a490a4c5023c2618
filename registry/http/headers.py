"""Headers of a request: indexed once, and only the one that is read is decoded."""

from starlette.types import Message, Scope

_IN_SCOPE = "adaptry.headers"


def index_headers(scope: Scope) -> dict[bytes, bytes]:
    """The first value of each name, in lower case. Kept in the scope while its headers are these.

    A dozen layers each read one or two.
    """
    headers = scope["headers"]
    kept = scope.get(_IN_SCOPE)
    if kept is not None and kept[0] is headers:
        indexed: dict[bytes, bytes] = kept[1]
        return indexed
    indexed = dict(reversed(list(headers)))
    scope[_IN_SCOPE] = (headers, indexed)
    return indexed


def find_header(scope: Scope, name: bytes) -> str | None:
    """The first of that name, which is in lower case; None if there is none."""
    value = index_headers(scope).get(name)
    return None if value is None else value.decode("latin-1")


def is_form(scope: Scope) -> bool:
    """Whether the body is a form of several parts."""
    kind = index_headers(scope).get(b"content-type")
    return kind is not None and kind[:10].lower() == b"multipart/"


def response_header(head: Message, name: bytes) -> bytes:
    """`name` in lower case. Of a response's first message; empty if it has none of that name."""
    for key, value in head["headers"]:
        if key.lower() == name:
            return bytes(value)
    return b""


def is_event_stream(head: Message) -> bool:
    """Whether a response that begins with it is one of Server-Sent Events."""
    return response_header(head, b"content-type").startswith(b"text/event-stream")


def find_headers(scope: Scope, name: bytes) -> list[str]:
    """All of that name, which is in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
