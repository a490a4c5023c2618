"""Errors as RFC 9457 problem details, inside an application whose handlers are not ours."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from registry.errors import RegistryError
from registry.redaction import redacted

MEDIA_TYPE = "application/problem+json"

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


def problem_content(
    *, path: str, status: int, code: str, title: str, detail: str
) -> dict[str, object]:
    """The members that every problem has."""
    return {
        "type": f"urn:adaptry:problem:{code}",
        "title": title,
        "status": status,
        "detail": redacted(detail),
        "code": code,
        "instance": redacted(path),
    }


class ProblemRoute(APIRoute):
    """Answers the registry's errors and malformed requests with problem details.

    A route class, because the routes are included in vLLM's application, whose exception handlers
    speak OpenAI's error format.
    """

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except RegistryError as error:
                return problem_response(
                    request,
                    status=error.status,
                    code=error.code,
                    title=type(error).__name__,
                    detail=error.detail,
                    retry_after_seconds=error.retry_after_seconds,
                )
            except RequestValidationError as error:
                return _malformed(request, error)
            except HTTPException as error:  # of FastAPI, for a body that no parser can read
                return problem_response(
                    request,
                    status=error.status_code,
                    code="invalid_request",
                    title="InvalidRequest",
                    detail=str(error.detail),
                )

        return handler


def _malformed(request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [
        {
            "field": redacted(".".join(str(part) for part in problem["loc"])),
            "message": redacted(str(problem["msg"])),
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
