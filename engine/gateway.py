"""Between HTTP and vLLM's routes: resolve the adapter once, lease it around generation.

An ASGI middleware reads `model` from the request, resolves it and keeps the answer with the request
that is being served. The response's first byte is held until the lease is there, so a failed load
has a proper status, streaming or not.
"""

from collections.abc import Callable
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.engine_request import EngineRequest, serving
from engine.errors import EngineError, EngineUnavailable
from engine.exchange import Exchange
from engine.openai_errors import BodyTooLarge, openai_error, send_engine_error, send_json
from engine.ports import Resolver
from engine.request_body import model_of, read_body, replayed, user_of
from registry.errors import RegistryError

UNKNOWN_ADAPTER = "_unknown"  # the metrics label; no adapter can have this name


class RequestCounter(Protocol):
    def request_ended(self, adapter: str, outcome: str) -> None: ...


class AdapterGateway:
    """The ASGI middleware. Leaves alone what can't reach the engine: other methods, our own API."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolver: Resolver,
        base_models: frozenset[str],
        counter: RequestCounter,
        unavailable: Callable[[], EngineUnavailable | None],
        own_prefix: str,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._resolver = resolver
        self._base_models = base_models
        self._counter = counter
        self._unavailable = unavailable
        self._own_prefix = own_prefix
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._may_reach_the_engine(scope):
            await self._app(scope, receive, send)
            return
        if (why := self._unavailable()) is not None:
            await send_engine_error(send, why)
            return
        try:
            body = await read_body(receive, self._max_body_bytes)
        except BodyTooLarge as error:
            await send_json(send, error.status, openai_error(error.status, error.code, str(error)))
            return
        if body is None:  # gone before the request was complete
            return
        receive = replayed(body, receive)
        model = model_of(body)
        if model is None or model in self._base_models:
            await self._serve(EngineRequest(model, None), scope, receive, send)
            return
        try:
            version = await self._resolver.resolve(model, lambda: user_of(scope, body))
        except RegistryError as error:
            self._counter.request_ended(UNKNOWN_ADAPTER, "refused")
            content = openai_error(error.status, error.code, error.detail, param="model")
            await send_json(send, error.status, content)
            return
        await self._serve(EngineRequest(model, version), scope, receive, send)

    def _may_reach_the_engine(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        if scope["path"].startswith(self._own_prefix):
            return False
        content_type = dict(scope["headers"]).get(b"content-type", b"")
        return not content_type.lower().startswith(b"multipart/")

    async def _serve(
        self, request: EngineRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        exchange = Exchange(request, receive, send, self._unavailable)
        try:
            with serving(request):
                await self._app(scope, exchange.receive, exchange.send)
        except EngineError:
            if exchange.started:
                raise
        finally:
            if request.version is not None and (outcome := exchange.outcome()):
                self._counter.request_ended(request.version.adapter, outcome)
        await exchange.finish()
