"""Error handlers: what vLLM's routes refuse or raise, in the dialect of the route.

They replace vLLM's. A refused body is never logged, not even where vLLM's stacks of errors are on,
and the answer has places and types of a few of its errors, without the input.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from jinja2 import TemplateError
from starlette.exceptions import HTTPException as StarletteHTTPException

from engine.errors import EngineError
from engine.gateway.openai_errors import error_content
from engine.gateway.request_context import current_request
from registry.http.dialects import is_own
from registry.http.problems import problem_response, route_path
from registry.http.unexpected_errors import report_unexpected

Handler = Callable[[Request, Any], Awaitable[Response]]

_MAX_ERRORS = 10
_MAX_TEXT = 500
_MAX_PLACE = 100
_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    501: "not_implemented",
    503: "engine_unavailable",
}
_BLAMED = (ValueError, TypeError, OverflowError, NotImplementedError, TemplateError)
"""vLLM raises these where the request is to blame."""
_QUOTING = frozenset({"union_tag_invalid", "json_invalid"})
"""Types of errors whose message has a piece of the input."""


def handle_errors(app: FastAPI) -> None:
    """Take the place of vLLM's handlers, and use them to find what a route's exception means."""
    handlers: dict[Any, Handler] = dict(app.exception_handlers)
    fallback = handlers.pop(Exception, None)
    expected = {*_BLAMED, *(kind for kind in handlers if isinstance(kind, type))}
    translated = {kind: _translate(handlers.get(kind, fallback)) for kind in expected}
    app.exception_handlers.clear()
    app.exception_handlers.update(
        {
            **translated,
            StarletteHTTPException: _on_http_exception,
            HTTPException: _on_http_exception,
            RequestValidationError: _on_invalid_body,
        }
    )


async def _on_http_exception(request: Request, error: Any) -> Response:
    status: int = error.status_code
    code = _CODES.get(status, "invalid_request" if status < 500 else "internal_error")
    answer = _answer(request, status, code, _cut(str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


async def _on_invalid_body(request: Request, error: Any) -> Response:
    errors: Sequence[Any] = error.errors()
    lines = [_describe(each) for each in errors[:_MAX_ERRORS]]
    if (more := len(errors) - len(lines)) > 0:
        lines.append(f"and {more} more")
    status = HTTPStatus.UNPROCESSABLE_ENTITY if is_own(_path(request)) else HTTPStatus.BAD_REQUEST
    param = _place(errors[0]["loc"]) if errors and isinstance(errors[0], dict) else None
    return _answer(request, status, "invalid_request", "; ".join(lines), param)


def _translate(vllm_handler: Handler | None) -> Handler:
    """vLLM's answer in the dialect of the route. A 500 of vLLM's is an unexpected error."""

    async def handler(request: Request, error: Any) -> Response:
        if vllm_handler is None or is_own(_path(request)):
            return _on_unexpected(request, error)
        answer = await vllm_handler(request, error)
        if (known := _known_failure()) is not None:
            return _answer(request, known.status, known.code, known.detail)
        if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            return _on_unexpected(request, error)
        described = json.loads(bytes(answer.body))["error"]
        code = _CODES.get(answer.status_code, "invalid_request")
        text = _cut(str(described["message"]))
        return _answer(request, answer.status_code, code, text, described.get("param"))

    return handler


def _known_failure() -> EngineError | None:
    """Why this server made vLLM's route fail: nothing that was not foreseen."""
    running = current_request()
    return None if running is None else running.failure


def _on_unexpected(request: Request, error: Exception) -> Response:
    internal = report_unexpected(error, request.scope)
    if (running := current_request()) is not None:
        running.is_reported = True
    return _answer(request, internal.status, internal.code, internal.detail)


def _answer(
    request: Request, status: int, code: str, message: str, param: str | None = None
) -> JSONResponse:
    path = _path(request)
    if is_own(path):
        title = code.title().replace("_", "")
        return problem_response(request, status=status, code=code, title=title, detail=message)
    return JSONResponse(error_content(path, status, code, message, param=param), status)


def _path(request: Request) -> str:
    return route_path(request.scope)


def _describe(error: Any) -> str:
    """One error of a body; some of vLLM's are only a text."""
    if not isinstance(error, dict):
        return _cut(str(error))
    kind = str(error.get("type"))
    message = "" if kind in _QUOTING else f" {_cut(str(error.get('msg')))}"
    return f"{_place(error.get('loc', ()))}:{message} ({kind})"


def _place(place: Iterable[Any]) -> str:
    """Without the names that pydantic gives to the members of a union."""
    parts = [str(part) for part in place if not _is_branch(str(part))]
    return _cut(".".join(parts), _MAX_PLACE)


def _is_branch(part: str) -> bool:
    return any(sign in part for sign in "[]()") or part in _BRANCHES


_BRANCHES = frozenset({"str", "int", "float", "bool", "list", "dict", "none", "nullable"})


def _cut(text: str, most: int = _MAX_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
