"""CSRF middleware (ASGI): pages of other sites can't change anything through a browser.

A server on a user's own machine requires no key, and any page the user visits could send requests
to it. Browsers state the origin of a request; requests of other programs have none and are allowed.
"""

import json
from collections.abc import Awaitable, Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.errors import CrossOrigin
from registry.http.dialects import MEDIA_TYPE, problem_content
from registry.http.headers import find_header, index_headers
from registry.http.response_head import Pair, add_to_head

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_BROWSERS = frozenset({b"origin", b"sec-fetch-site"})
_OWN = frozenset({"same-origin", "none"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NAMES = frozenset(name for name, _ in _HEADERS)


class CsrfMiddleware:
    """`allowed`: origins that are trusted. Also adds security headers to responses."""

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in {"http", "websocket"}:
            return self._app(scope, receive, send)
        if self._is_cross_origin(scope):
            return _refuse(scope, send)
        if scope["type"] == "websocket":
            return self._app(scope, receive, send)
        return self._app(scope, receive, add_to_head(scope, send, _security_headers))

    def _is_cross_origin(self, scope: Scope) -> bool:
        """As Go's CrossOriginProtection decides."""
        if scope["type"] == "http" and scope["method"] in _SAFE:
            return False
        if _OF_BROWSERS.isdisjoint(index_headers(scope)):
            return False
        origin = find_header(scope, b"origin")
        if origin is not None and not self._allowed.isdisjoint({origin, "*"}):
            return False
        if (site := find_header(scope, b"sec-fetch-site")) is not None:
            return site not in _OWN
        if origin is None:
            return False
        return _host(origin) != (find_header(scope, b"host") or "").lower()


def _host(origin: str) -> str:
    """Host and port; empty for `null`, the origin of a sandboxed page."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _security_headers(headers: Sequence[Pair]) -> Sequence[Pair]:
    for name, _ in headers:
        if name.lower() in _NAMES:  # of pages alone
            named = {name.lower() for name, _ in headers}
            return [pair for pair in _HEADERS if pair[0] not in named]
    return _HEADERS


async def _refuse(scope: Scope, send: Send) -> None:
    error = CrossOrigin()
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    content = problem_content(
        path=scope["path"],
        status=error.status,
        code=error.code,
        title=type(error).__name__,
        detail=error.detail,
    )
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
