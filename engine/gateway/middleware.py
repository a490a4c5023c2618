"""Gateway middleware: resolves a request's adapter before vLLM's routes, and counts the request.

It reads `model` from the body, resolves it and stores the version in the request's context; the
engine client leases it around generation. The start of the response is held until the lease is
acquired, so a failed load has a proper status, streaming or not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import EngineError, EngineSuspended, EngineUnavailable
from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.deferred_response import DeferredResponse
from engine.gateway.in_flight import RequestLimit
from engine.gateway.openai_errors import send_refusal
from engine.gateway.request_body import RequestBody, find_body, hand_on_body, read_body
from engine.gateway.request_context import (
    RequestContext,
    reset_request,
    set_request,
    when_worked,
)
from engine.gateway.requested_model import read_requested_model
from engine.gateway.token_estimate import take_tokens
from engine.gateway.unknown_model import as_model_error
from engine.ports import Resolver
from engine.telemetry.spans import NO_REQUEST, NULL_SPANS, RequestSpans, Tracing
from engine.trace.recorder import NullTrace, RequestTrace
from registry.errors import RateLimitExceeded, RegistryError
from registry.http.headers import is_form
from registry.http.json_shape import MAX_VALUES
from registry.http.problems import route_path
from registry.http.rate_limits import request_rates
from registry.rates.caller_rates import RequestRates
from registry.telemetry.label_limit import UNKNOWN_ADAPTER

_NULL_TRACE = NullTrace()
_RESPONSES = "/v1/responses/"


class RequestCounter(Protocol):
    def count_request(self, adapter: str, outcome: str, seconds: float) -> None: ...
    def count_refusal(self, code: str) -> None: ...


class AdapterGateway:
    """The ASGI middleware. Passes on unread what can't reach the engine, such as our own API."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolver: Resolver,
        base_models: frozenset[str],
        counter: RequestCounter,
        tracing: Tracing,
        unavailable: Callable[[], EngineUnavailable | None],
        in_flight: RequestLimit,
        own_prefix: str,
        max_body_bytes: int,
        max_body_values: int = MAX_VALUES,
        trace: RequestTrace = _NULL_TRACE,
        default_adapter: str | None = None,
    ) -> None:
        self._app = app
        self._resolver = resolver
        self._base_models = base_models
        self._default = DefaultAdapter(default_adapter, resolver, base_models)
        self._counter = counter
        self._tracing = tracing
        self._unavailable = unavailable
        self._in_flight = in_flight
        self._own_prefix = own_prefix
        self._max_body_bytes = max_body_bytes
        self._max_body_values = max_body_values
        self._trace = trace

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or scope["method"] != "POST":
            return self._app(scope, receive, send)
        path = route_path(scope)
        # a cancel ends work in the background, for which there may be no limit left to it
        is_cancel = path.startswith(_RESPONSES) and path.endswith("/cancel")
        if is_cancel or path.startswith(self._own_prefix):
            return self._app(scope, receive, send)
        tracing = self._tracing.request(scope)
        if tracing is NO_REQUEST:
            return self._handle(NULL_SPANS, scope, receive, send)
        return self._trace_request(tracing, scope, receive, send)

    async def _trace_request(
        self,
        tracing: AbstractContextManager[RequestSpans],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        with tracing as spans:
            await self._handle(spans, scope, receive, send)

    async def _handle(
        self, spans: RequestSpans, scope: Scope, receive: Receive, send: Send
    ) -> None:
        why = self._unavailable()
        if why is not None and not isinstance(why, EngineSuspended):  # that ends by a request
            await self._send_refusal(spans, why, scope, send)
            return
        has_parts, made = is_form(scope), find_body(scope)  # made by a route of this server
        try:  # the server's `receive` has limits: `BodyLimitMiddleware` is around it
            content = await read_body(
                receive,
                self._max_body_bytes,
                is_text=not has_parts,
                max_values=self._max_body_values,
                checked=None if made is None else made.content,
            )
        except RegistryError as error:
            await self._send_refusal(spans, error, scope, send)
            return
        if content is None:  # the client disconnected before the body was complete
            return
        is_made = made is not None and made.content == content
        body = made if made and is_made else RequestBody(content, has_parts=has_parts)
        try:
            if (rates := request_rates(scope)) is not None:
                await take_tokens(rates, body)
                rates.count("tokens", 0)  # the estimate is given back where nothing is generated
            counted = self._in_flight.begin()
        except (EngineError, RateLimitExceeded) as error:
            await self._send_refusal(spans, error, scope, send)
            return
        resolved = None
        try:
            body = await self._default.apply(scope, body)
            resolved = await self._resolve(spans, rates, body, scope, send)
            if resolved is not None:
                await self._serve(*resolved, body.replay(receive), send, counted.begin_answer)
        finally:
            when_worked(resolved and resolved[0], counted.end)

    async def _resolve(
        self,
        spans: RequestSpans,
        rates: RequestRates | None,
        body: RequestBody,
        scope: Scope,
        send: Send,
    ) -> tuple[RequestContext, Scope] | None:
        """The request, and the scope for its route; None if it was refused."""
        named = read_requested_model(scope, body)
        hand_on_body(scope, body)
        model = named.model
        request = RequestContext(model, None, spans, rates=rates)
        if model is None or model in self._base_models:
            return request, scope
        try:
            if spans is NULL_SPANS:  # a block that does nothing takes a microsecond
                request.version = await self._resolver.resolve(model, named.draw)
            else:
                with spans.resolve_span():
                    request.version = await self._resolver.resolve(model, named.draw)
        except RegistryError as refused:
            error = as_model_error(refused, model)
            self._counter.count_request(UNKNOWN_ADAPTER, "refused", request.seconds())
            self._refuse(spans, error.status, error.code)
            await send_refusal(send, error, path=route_path(scope), param="model")
            return None
        spans.record_version(request.version)
        request.requested, scope = named.for_route(scope, request.version.reference)
        return request, scope

    def _send_refusal(
        self, spans: RequestSpans, error: EngineError | RegistryError, scope: Scope, send: Send
    ) -> Awaitable[None]:
        self._refuse(spans, error.status, error.code)
        return send_refusal(send, error, path=route_path(scope))

    def _refuse(self, spans: RequestSpans, status: int | None, code: str) -> None:
        self._counter.count_refusal(code)
        spans.record_response(status, code)

    async def _serve(
        self,
        request: RequestContext,
        scope: Scope,
        receive: Receive,
        send: Send,
        begin_answer: Callable[[], None],
    ) -> None:
        response = DeferredResponse(request, scope, receive, send, self._unavailable, begin_answer)
        try:
            await self._answer(request, response, scope)
            if request.background is not None:
                await asyncio.wait([request.background])
        finally:
            if request.background is None:
                request.detach()
            else:
                when_worked(request, lambda: self._end(request, response))

    def _end(self, request: RequestContext, response: DeferredResponse) -> None:
        if request.background is not None:
            self._count(request, response, request.background.result())
        request.detach()

    async def _answer(
        self, request: RequestContext, response: DeferredResponse, scope: Scope
    ) -> None:
        before = set_request(request)
        try:
            await self._app(scope, response.receive, response.send)
        except Exception as error:
            is_answered = response.status is not None and not response.is_open_stream
            if is_answered or not self._is_engine_failure(error, request):
                raise
        finally:
            reset_request(before)
            if request.background is None:
                self._count(request, response)
        await response.finish()

    def _is_engine_failure(self, error: Exception, request: RequestContext) -> bool:
        """When vLLM stops, its parts stop one after the other and raise various errors."""
        reason = error if isinstance(error, EngineError) else self._unavailable()
        request.failure = request.failure or reason
        return request.failure is not None

    def _count(
        self, request: RequestContext, response: DeferredResponse, ended: str | None = None
    ) -> None:
        """`ended`: how the work ended that went on behind the answer."""
        if ended == "cancelled" or (ended is None and response.client_disconnected):
            request.spans.record_response(None, "cancelled")
        elif (refusal := response.refusal) is not None:
            self._refuse(request.spans, refusal.status, refusal.code)
        elif request.spans is not NULL_SPANS:
            request.spans.record_response(response.status, response.error_code)
        if request.version is None and not request.is_admitted:
            return  # it may be for no engine
        if outcome := response.outcome(ended):
            end = request.ended(outcome)
            if request.version is not None:
                self._counter.count_request(request.version.adapter, outcome, end.seconds)
            self._trace.add_request(end)
