"""Between HTTP and vLLM's routes: resolve the adapter once, lease it around generation.

An ASGI middleware reads `model` from the request, resolves it and keeps the answer in a context
variable. vLLM's routes then find the adapter through `RequestedAdapters`, which stands in place of
their own table, and the engine client takes the lease through `lease_for`. The response's first
byte is held until that lease is there, so a failed load has a proper status, streaming or not.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.controller import CacheController
from engine.errors import EngineError
from engine.openai_errors import BodyTooLarge, openai_error, send_json
from engine.request_body import model_of, read_body, replayed
from engine.types import AdapterVersion, Lease
from registry.errors import RegistryError

EngineRequest = TypeVar("EngineRequest")

UNKNOWN_ADAPTER = "_unknown"  # the metrics label; no adapter can have this name


class Resolver(Protocol):
    async def resolve(self, text: str) -> AdapterVersion:
        """The version that a reference means now. Raises RegistryError."""


class RequestCounter(Protocol):
    def request_ended(self, adapter: str, outcome: str) -> None: ...


@dataclass(slots=True)
class AdapterRequest:
    """One HTTP request that named an adapter."""

    requested: str
    version: AdapterVersion
    lease: Lease | None = None
    failure: EngineError | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Which version answers, where it was found, and what that cost."""
        headers = {"x-adaptry-version": self.version.reference}
        if self.lease is not None:
            headers["x-adaptry-cache"] = self.lease.outcome
            headers["x-adaptry-load-ms"] = f"{self.lease.load_seconds * 1000:.1f}"
        return [(name.encode(), value.encode()) for name, value in headers.items()]


_current: ContextVar[AdapterRequest | None] = ContextVar("adaptry_request", default=None)


def requested_name() -> str | None:
    """What the client of the running request asked for, if that is an adapter."""
    request = _current.get()
    return request.requested if request else None


class RequestedAdapters(Mapping[str, EngineRequest]):
    """The adapters that vLLM's routes can see: the one that this request resolved to.

    Takes the place of `OpenAIServingModels.lora_requests`, which every route asks.
    """

    def __init__(self, engine_request: Callable[[AdapterVersion], EngineRequest]) -> None:
        self._engine_request = engine_request

    def __contains__(self, name: object) -> bool:
        return name is not None and name == requested_name()

    def __getitem__(self, name: str) -> EngineRequest:
        request = _current.get()
        if request is None or request.requested != name:
            raise KeyError(name)
        return self._engine_request(request.version)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Leasing:
    """Gives vLLM's engine client its leases and notes them on the running request."""

    def __init__(self, controller: CacheController) -> None:
        self._controller = controller

    @asynccontextmanager
    async def lease_for(self, _: object) -> AsyncIterator[Lease]:
        """Raises what `CacheController.lease` raises."""
        request = _current.get()
        if request is None:
            raise RuntimeError("an adapter was asked for past the gateway")
        async with AsyncExitStack() as stack:
            try:
                lease = await stack.enter_async_context(self._controller.lease(request.version))
            except EngineError as error:
                request.failure = error
                raise
            request.lease = request.lease or lease
            yield lease


class AdapterGateway:
    """The ASGI middleware. Leaves alone what names no adapter: other methods, the base model."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolver: Resolver,
        base_models: frozenset[str],
        counter: RequestCounter,
        own_prefix: str,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._resolver = resolver
        self._base_models = base_models
        self._counter = counter
        self._own_prefix = own_prefix
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._may_name_an_adapter(scope):
            await self._app(scope, receive, send)
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
            await self._app(scope, receive, send)
            return
        try:
            version = await self._resolver.resolve(model)
        except RegistryError as error:
            self._counter.request_ended(UNKNOWN_ADAPTER, "refused")
            content = openai_error(error.status, error.code, error.detail, param="model")
            await send_json(send, error.status, content)
            return
        await self._serve(AdapterRequest(model, version), scope, receive, send)

    def _may_name_an_adapter(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        if scope["path"].startswith(self._own_prefix):
            return False
        content_type = dict(scope["headers"]).get(b"content-type", b"")
        return not content_type.lower().startswith(b"multipart/")

    async def _serve(
        self, request: AdapterRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        exchange = Exchange(request, receive, send)
        token = _current.set(request)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except EngineError:
            if exchange.started:
                raise
        finally:
            _current.reset(token)
            if outcome := exchange.outcome():
                self._counter.request_ended(request.version.adapter, outcome)
        await exchange.finish()


class Exchange:
    """One response on its way out: held until its first byte, replaced if the lease failed."""

    def __init__(self, request: AdapterRequest, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self._held: Message | None = None
        self._status: int | None = None
        self._replaced = False
        self._complete = False
        self._client_left = False

    @property
    def started(self) -> bool:
        return self._status is not None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._client_left = True
        return message

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            self._held = message
            return
        if self._held is not None and not await self._start(self._held):
            return
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    async def _start(self, held: Message) -> bool:
        self._held = None
        if self._request.failure is not None:
            await self._replace(self._request.failure)
            return False
        self._status = held["status"]
        await self._send({**held, "headers": [*held["headers"], *self._request.headers()]})
        return True

    async def _replace(self, failure: EngineError) -> None:
        self._replaced = self._complete = True
        self._status = failure.status
        content = openai_error(failure.status, failure.code, failure.detail)
        headers = self._request.headers()
        if failure.retry_after_seconds is not None:
            headers.append((b"retry-after", str(failure.retry_after_seconds).encode()))
        await send_json(self._send, failure.status, content, headers)

    async def finish(self) -> None:
        """Answer for an application that ended without a word, because the lease had failed."""
        if not self.started and self._request.failure is not None:
            await self._replace(self._request.failure)

    def outcome(self) -> str | None:
        """How the request ended; None if it was no generation at all (say, `/tokenize`)."""
        if self._client_left and not self._complete:
            return "cancelled"
        failure = self._request.failure
        status = failure.status if failure is not None else self._status
        if status is None or status >= 500:
            return "failed"
        if status >= 400:
            return "refused"
        return "completed" if self._request.lease is not None else None
