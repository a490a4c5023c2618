"""Unexpected errors: `500 internal_error` with an id, and a line in the log that has it too.

Neither has the exception's text: it may quote a prompt, an SQL statement or its parameters.
"""

import contextlib
import logging
import secrets
import traceback

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.errors import InternalError
from registry.http.problems import route_path, send_error
from registry.redaction import redact

logger = logging.getLogger(__name__)

_MAX_CAUSES = 5


class UnexpectedErrorMiddleware:
    """An ASGI middleware within the one that adds security headers: they are on these answers too.

    It wraps no `send`, which is called for each token. If a response has started the server refuses
    another, and cuts the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            answer = report_unexpected(error, scope)
            with contextlib.suppress(Exception):
                await send_error(scope, send, answer)


def report_unexpected(error: BaseException, scope: Scope) -> InternalError:
    """Log where it was raised, and return what to answer."""
    return report_internal(scope.get("method", ""), route_path(scope), describe_exception(error))


def report_internal(method: str, path: str, what: str) -> InternalError:
    """Log what happened, under the id that the answer has."""
    error_id = secrets.token_hex(8)
    logger.error("internal error %s at %s %s: %s", error_id, method, redact(path), what)
    return InternalError(error_id)


def describe_exception(error: BaseException) -> str:
    """Types and places of an exception and its causes, without their texts."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None and len(lines) < _MAX_CAUSES:
        frames = traceback.extract_tb(current.__traceback__)
        places = "".join(f"\n  {f.filename}:{f.lineno} in {f.name}" for f in frames)
        kind = type(current)
        lines.append(f"{kind.__module__}.{kind.__qualname__}{places}")
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return "\ncaused by ".join(lines)
