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
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.gateway.openai_errors import error_content, send_json
from registry.http.dialects import is_own
from registry.http.problems import ProblemRoute, unknown_parameters_response
from registry.redaction import redact

_OF_CLIENTS = frozenset({"api-version", "beta"})
"""Sent with every request by OpenAI clients set up for Azure, and by Anthropic's beta client."""
_UNREAD = re.compile(r"/|/console(/.*)?|/health|/ping")
"""Pages, to whose links mails and proxies add theirs, and probes, to which monitors do: what such a
route ignores misleads nobody, and a refused probe takes a healthy server out."""
_SHOWN_CHARACTERS = 100


def refuse_unknown_parameters(
    routes: Iterable[Any], more: Mapping[str, frozenset[str]] | None = None
) -> None:
    """`more`: what routes read that don't declare it, by their path."""
    for route in routes:
        if not isinstance(route, Route) or isinstance(route, ProblemRoute):
            continue
        if _UNREAD.fullmatch(route.path):
            continue
        known = set((more or {}).get(route.path, ()))
        if isinstance(route, APIRoute):
            dependant = get_flat_dependant(route.dependant)
            known |= {parameter.alias for parameter in dependant.query_params}
        elif not known and route.path not in (more or {}):
            continue  # pages of the documentation, and their files
        if route.path.startswith("/v1/"):
            known |= _OF_CLIENTS
        route.app = _KnownParameters(route.app, frozenset(known))


class _KnownParameters:
    def __init__(self, app: ASGIApp, known: frozenset[str]) -> None:
        self._app = app
        self._known = known

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not scope["query_string"]:
            return self._app(scope, receive, send)
        return self._check(scope, receive, send)

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = QueryParams(scope["query_string"])
        unknown = [name for name in query if name not in self._known]
        if not unknown:
            await self._app(scope, receive, send)
        elif is_own(path := scope["path"]):
            request = Request(scope, receive)
            await unknown_parameters_response(request, unknown, self._known)(scope, receive, send)
        else:
            name = redact(unknown[0][:_SHOWN_CHARACTERS])
            known = ", ".join(sorted(self._known - _OF_CLIENTS))
            takes = f"this route takes {known}" if known else "this route takes none"
            message = f"no such query parameter: {name}; {takes}"
            status = HTTPStatus.BAD_REQUEST
            content = error_content(path, status, "invalid_request", message, param=name)
            await send_json(send, status, content)
