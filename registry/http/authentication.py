"""The ASGI middleware that asks for a key, before anything of a request is read."""

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.auth.caller import Caller, calling
from registry.auth.refusal_log import KeyRefusals
from registry.auth.scopes import Rule, rule_for
from registry.errors import InvalidKey, KeyRequired, RegistryError, ScopeMissing
from registry.http.problems import route_path, send_refusal

Recognise = Callable[[str], Awaitable[Caller]]


class KeyGuard:
    """`recognise` raises InvalidKey for what is no good key, RegistryError if it can't tell."""

    def __init__(
        self, app: ASGIApp, *, recognise: Recognise, refusals: KeyRefusals | None = None
    ) -> None:
        self._app = app
        self._recognise = recognise
        self._refusals = refusals or KeyRefusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "GET")
        rule = rule_for(method, route_path(scope))
        if not rule.scopes or method == "OPTIONS":
            await self._app(scope, receive, send)
            return
        try:
            key = _presented(Headers(scope=scope))
            caller = await self._admitted(key, rule)
        except RegistryError as error:
            self._refusals.note(error)
            await _refuse(scope, send, error)
            return

        async def check() -> None:
            await self._admitted(key, rule)

        with calling(caller, check):
            await self._app(scope, receive, send)

    async def _admitted(self, key: str, rule: Rule) -> Caller:
        caller = await self._recognise(key)
        if not caller.may(rule.scopes):
            raise ScopeMissing(sorted(rule.scopes))
        if rule.platform:
            caller.check_platform()
        return caller


def _presented(headers: Headers) -> str:
    """Raises KeyRequired, InvalidKey."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if not scheme:
        raise KeyRequired
    if scheme.lower() != "bearer":
        raise InvalidKey
    return text.strip()


async def _refuse(scope: Scope, send: Send, error: RegistryError) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    challenge = [(b"www-authenticate", b'Bearer realm="adaptry"')] if error.status == 401 else []
    await send_refusal(scope, send, error, challenge)
