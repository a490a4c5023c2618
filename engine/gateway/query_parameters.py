"""Query parameters: vLLM's routes refuse those that they don't read, as ours do.

A misspelt `level` of `/sleep` must not seem to have been heeded.
"""

import re
from collections.abc import Awaitable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.gateway.model_list import MODELS
from engine.gateway.openai_errors import error_content
from registry.http.dialects import is_own
from registry.http.problems import ProblemRoute, unknown_parameters_response
from registry.redaction import redact

_OF_CLIENTS = frozenset({"api-version", "beta"})
"""Sent with every request by OpenAI clients set up for Azure, and by Anthropic's beta client."""
_UNREAD = re.compile(r"/|/console(/.*)?|/docs(/.*)?|/redoc|/openapi\.json|/health|/ping")
"""Pages, to whose links mails and proxies add theirs, and probes, to which monitors do: what such a
route ignores misleads no caller, and a refused probe takes a healthy server out."""
_SHOWN_CHARACTERS = 100

Names = Mapping[str, frozenset[str]]
UNDECLARED: Names = {
    MODELS: frozenset({"limit", "after", "client_version"}),
    f"{MODELS}/{{model:path}}": frozenset(),
    "/metrics": frozenset({"name[]"}),
    "/sleep": frozenset({"level", "mode"}),
    "/wake_up": frozenset({"tags"}),
    "/adapters": frozenset({"name", "src", "load_inplace", "preload", "pin"}),
}
"""Query parameters that routes take from the request, by their path: vLLM 0.26 reads `/sleep`'s so.
Codex lists models with its `client_version`, which nothing here depends on."""


def refuse_unknown_parameters(routes: Iterable[Any], undeclared: Names = UNDECLARED) -> None:
    """`undeclared`: what routes read that don't declare it, by their path."""
    for route in routes:
        if not isinstance(route, Route) or isinstance(route, ProblemRoute):
            continue
        known = undeclared.get(route.path, frozenset())
        if isinstance(route, APIRoute):
            dependant = get_flat_dependant(route.dependant)
            known |= {parameter.alias for parameter in dependant.query_params}
        elif route.path not in undeclared:
            continue  # pages of the documentation, and their files
        route.app = _KnownParameters(route.app, route.path, known)


class _KnownParameters:
    def __init__(self, app: ASGIApp, path: str, known: frozenset[str]) -> None:
        self._app = app
        self._path = path
        self._known = known

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not scope["query_string"]:
            return self._app(scope, receive, send)
        app = unknown_parameters_refusal(scope, self._path, self._known) or self._app
        return app(scope, receive, send)


def unknown_parameters_refusal(
    scope: Scope, route: str, known: frozenset[str] = frozenset()
) -> ASGIApp | None:
    """The answer to a request with a parameter that its route, with this path, does not read.

    In the route's dialect. `known`: what the route reads.
    """
    query: bytes = scope.get("query_string", b"")
    if not query or _UNREAD.fullmatch(route):
        return None
    passed = known | _OF_CLIENTS if route.startswith("/v1/") else known
    unknown = [name for name in QueryParams(query) if name not in passed]
    if not unknown:
        return None
    if is_own(path := scope["path"]):
        return unknown_parameters_response(Request(scope), unknown, known)
    name = redact(unknown[0][:_SHOWN_CHARACTERS])
    takes = f"this route takes {', '.join(sorted(known)) or 'none'}"
    message = f"no such query parameter: {name}; {takes}"
    status = HTTPStatus.BAD_REQUEST
    content = error_content(path, status, "invalid_request", message, param=name)
    return JSONResponse(content, status)
