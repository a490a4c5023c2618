"""Authentication middleware (ASGI): checks the API key before reading anything of a request."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.auth.caller import Caller, as_caller
from registry.auth.refusal_log import RefusalLog
from registry.auth.scopes import Rule, rule_for
from registry.errors import InvalidKey, KeyRequired, RegistryError, ScopeMissing
from registry.http.headers import find_header
from registry.http.problems import route_path, send_error

Authenticate = Callable[[str], Awaitable[Caller]]


class AuthenticationMiddleware:
    """`recognise` raises InvalidKey for an invalid key, RegistryError if it can't decide."""

    def __init__(
        self, app: ASGIApp, *, authenticate: Authenticate, refusals: RefusalLog | None = None
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._refusals = refusals or RefusalLog()

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
            key = _bearer_key(scope)
            caller = await self._authorize(key, rule)
        except RegistryError as error:
            self._refusals.record(error)
            await _refuse(scope, send, error)
            return

        async def check() -> None:
            await self._authorize(key, rule)

        with as_caller(caller, check):
            await self._app(scope, receive, send)

    async def _authorize(self, key: str, rule: Rule) -> Caller:
        caller = await self._authenticate(key)
        if not caller.may(rule.scopes):
            raise ScopeMissing(sorted(rule.scopes))
        if rule.platform:
            caller.check_platform()
        return caller


def _bearer_key(scope: Scope) -> str:
    """Raises KeyRequired, InvalidKey."""
    scheme, _, text = (find_header(scope, b"authorization") or "").partition(" ")
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
    await send_error(scope, send, error, challenge)
