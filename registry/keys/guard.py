"""The ASGI middleware that asks for a key, before anything of a request is read."""

import json
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.errors import InvalidKey, KeyRequired, RegistryError, ScopeMissing
from registry.keys.caller import Caller, calling
from registry.keys.rules import rule_for
from registry.problems import MEDIA_TYPE, problem_content

_OURS = ("/api/", "/metrics", "/healthz", "/readyz")

Recognise = Callable[[str], Awaitable[Caller]]


class KeyGuard:
    """`recognise` raises InvalidKey for what is no good key, RegistryError if it can't tell."""

    def __init__(self, app: ASGIApp, *, recognise: Recognise) -> None:
        self._app = app
        self._recognise = recognise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "GET")
        rule = rule_for(method, _route_path(scope))
        if not rule.scopes or method == "OPTIONS":
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._recognise(_presented(Headers(scope=scope)))
            if not caller.may(rule.scopes):
                raise ScopeMissing(sorted(rule.scopes))
            if rule.platform:
                caller.check_platform()
        except RegistryError as error:
            await _refuse(scope, send, error)
            return
        with calling(caller):
            await self._app(scope, receive, send)


def _route_path(scope: Scope) -> str:
    """Without the prefix under which a proxy has put all of it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _presented(headers: Headers) -> str:
    """Raises KeyRequired, InvalidKey."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if not scheme:
        raise KeyRequired
    if scheme.lower() != "bearer":
        raise InvalidKey
    return text.strip()


async def _refuse(scope: Scope, send: Send, error: RegistryError) -> None:
    """As problem details on our own routes, in OpenAI's shape on the others."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    ours = _route_path(scope).startswith(_OURS)
    content = _problem(scope, error) if ours else _openai(error)
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", (MEDIA_TYPE if ours else "application/json").encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="adaptry"'))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _problem(scope: Scope, error: RegistryError) -> dict[str, object]:
    return problem_content(
        path=scope["path"],
        status=error.status,
        code=error.code,
        title=type(error).__name__,
        detail=error.detail,
    )


def _openai(error: RegistryError) -> dict[str, object]:
    kind = "authentication_error" if error.status == 401 else "permission_error"
    inner = {"message": error.detail, "type": kind, "param": None, "code": error.code}
    return {"error": inner}
