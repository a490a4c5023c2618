"""Problem details (RFC 9457) for errors, inside an application with other exception handlers."""

import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from registry.errors import RegistryError
from registry.http.dialects import (
    MEDIA_TYPE,
    anthropic_error,
    is_anthropic,
    is_own,
    is_tgi,
    problem_content,
    tgi_error,
)
from registry.redaction import redact
from registry.validation import explain

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

_SHOWN_PARAMETERS = 10
_SHOWN_CHARACTERS = 100

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def problem_response(
    request: Request,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    retry_after_seconds: int | None = None,
    **more: object,
) -> JSONResponse:
    """One problem document; `code` is stable, `detail` is for people."""
    path = request.url.path
    content = problem_content(path=path, status=status, code=code, title=title, detail=detail)
    content.update(more)
    headers = None if retry_after_seconds is None else {"retry-after": str(retry_after_seconds)}
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE, headers=headers)


class ProblemRoute(APIRoute):
    """Answers errors and malformed requests with problem details.

    A route class, because the routes are included in vLLM's application, whose exception handlers
    speak OpenAI's error format. A subclass may name more error classes; each needs the attributes
    of RegistryError.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (RegistryError,)

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()
        known = frozenset(
            parameter.alias for parameter in get_flat_dependant(self.dependant).query_params
        )

        async def handler(request: Request) -> Response:
            if unknown := [name for name in request.query_params if name not in known]:
                return unknown_parameters_response(request, unknown, known)
            try:
                return await inner(request)
            except self.errors as error:
                return _error_response(request, error)
            except RequestValidationError as error:
                return _validation_response(request, error)
            except HTTPException as error:  # FastAPI's, for a body that can't be parsed
                return problem_response(
                    request,
                    status=error.status_code,
                    code="invalid_request",
                    title="InvalidRequest",
                    detail=str(error.detail),
                )

        return handler


def _error_response(request: Request, error: Any) -> JSONResponse:
    return problem_response(
        request,
        status=error.status,
        code=error.code,
        title=type(error).__name__,
        detail=error.detail,
        retry_after_seconds=error.retry_after_seconds,
    )


def _validation_response(request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [
        {
            "field": redact(".".join(str(part) for part in problem["loc"])),
            "message": redact(explain(problem)),
        }
        for problem in error.errors()
    ]
    return problem_response(
        request,
        status=422,
        code="invalid_request",
        title="InvalidRequest",
        detail="; ".join(f"{p['field']}: {p['message']}" for p in problems),
        errors=problems,
    )


def unknown_parameters_response(
    request: Request, unknown: Sequence[str], known: frozenset[str]
) -> JSONResponse:
    """A filter that is not known must not be answered as if it had filtered."""
    names = [redact(name[:_SHOWN_CHARACTERS]) for name in unknown[:_SHOWN_PARAMETERS]]
    message = "no such query parameter"
    problems = [{"field": f"query.{name}", "message": message} for name in names]
    takes = f"this route takes {', '.join(sorted(known))}" if known else "this route takes none"
    return problem_response(
        request,
        status=422,
        code="invalid_request",
        title="InvalidRequest",
        detail=f"no such query parameter: {', '.join(names)}; {takes}",
        errors=problems,
    )


# ---- outside the routes ----------------------------------------------------------------------


def route_path(scope: Scope) -> str:
    """The path without the proxy's prefix (`root_path`), as Starlette finds its route by it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root or not path.startswith(root):
        return path
    rest = path[len(root) :]
    return rest if rest[:1] in ("", "/") else path  # `/ap` is no prefix of `/api/v1`


async def send_error(
    scope: Scope,
    send: Send,
    error: RegistryError,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """A complete response from middleware, in the dialect of the route."""
    path = route_path(scope)
    body = json.dumps(_document(path, scope, error)).encode()
    media_type = MEDIA_TYPE if is_own(path) else "application/json"
    all_headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    if error.retry_after_seconds is not None:
        all_headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def _document(path: str, scope: Scope, error: RegistryError) -> dict[str, object]:
    if is_own(path):
        return _problem_body(scope, error)
    if is_anthropic(path):
        return anthropic_error(error.status, error.code, error.detail)
    if is_tgi(path):
        return tgi_error(error.status, error.code, error.detail)
    return _openai_body(error)


def _problem_body(scope: Scope, error: RegistryError) -> dict[str, object]:
    return problem_content(
        path=scope["path"],
        status=error.status,
        code=error.code,
        title=type(error).__name__,
        detail=error.detail,
    )


def _openai_body(error: RegistryError) -> dict[str, object]:
    kind = _OPENAI_TYPES.get(error.status, "invalid_request_error")
    inner = {"message": error.detail, "type": kind, "param": None, "code": error.code}
    return {"error": inner}
