"""Realtime gateway (ASGI): the layer around vLLM's `/v1/realtime`, as the gateway is over HTTP."""

import secrets
from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.requested_model import USER_HEADER
from engine.realtime.session import RealtimeSession, reset_session, set_session
from engine.realtime.transcription import Controls
from registry.http.headers import find_header
from registry.http.problems import route_path
from registry.http.rate_limits import request_rates

PATH = "/v1/realtime"


class RealtimeGateway:
    """Passes on everything that is no realtime session."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        controls: Controls,
        base_models: frozenset[str],
        default_adapter: str | None,
        silence_seconds: float,
    ) -> None:
        self._app = app
        self._controls = controls
        self._base_model = min(base_models)
        self._default = DefaultAdapter(default_adapter, controls.resolver, base_models)
        self._silence_seconds = silence_seconds

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "websocket" and route_path(scope) == PATH:
            return self._serve(scope, receive, send)
        return self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        drawn = find_header(scope, USER_HEADER) or secrets.token_hex(8)
        session = RealtimeSession(
            scope,
            receive,
            send,
            self._controls,
            self._default,
            self._base_model,
            lambda: drawn,
            request_rates(scope),
            self._silence_seconds,
        )
        before = set_session(session)
        try:
            await self._app(scope, session.receive, session.send)
        finally:
            reset_session(before)
