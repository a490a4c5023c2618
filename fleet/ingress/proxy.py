"""Proxy: sends a request to the most suitable replica and streams its response back.

The reference is resolved here, once, so that every replica serves the same version.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.types import Receive, Scope, Send

from engine.errors import EngineError
from engine.fanout.schemas import COMPLETIONS, models_of
from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.in_flight import InFlight, RequestLimit, uncounted
from engine.gateway.openai_errors import send_refusal
from engine.gateway.request_body import RequestBody, read_body
from engine.gateway.request_context import TRANSLATED
from engine.gateway.requested_model import FANOUT, read_requested_model
from engine.gateway.token_estimate import estimated_prompt, take_tokens, take_tokens_of_models
from engine.ports import Resolver
from engine.types import AdapterVersion
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.socket_refusal import refuse_socket
from fleet.ingress.stored_responses import (
    is_in_background,
    names_stored_response,
    replica_with_response,
)
from fleet.messages import TOKENS_USED, ForwardedRequest
from fleet.ports import NoReplica, ReplicaLost, Replicas
from fleet.proxied_response import MISSING, NONE_ANSWERS, ProxiedResponse
from registry.errors import RateLimitExceeded, RegistryError
from registry.http.headers import is_form
from registry.http.json_shape import MAX_VALUES
from registry.http.leaving_client import while_connected
from registry.http.problems import route_path
from registry.http.rate_limits import request_rates
from registry.rates.caller_rates import RequestRates

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_FORWARDED = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"),
    *("root_path", "headers", "client", "server", TRANSLATED),
)
Models = Sequence[Mapping[str, Any]]
"""Of a fan-out: what each adds to the body; none of any other request."""


class ReplicaProxy:
    """An ASGI application. `base_models` are never resolved as adapters.

    `is_complete`: whether all replicas of the fleet are up.
    """

    def __init__(
        self,
        replicas: Replicas,
        resolver: Resolver,
        *,
        recent: RecentResidency,
        base_models: frozenset[str],
        in_flight: RequestLimit,
        max_body_bytes: int,
        is_complete: Callable[[], Awaitable[bool]],
        max_body_values: int = MAX_VALUES,
        default_adapter: str | None = None,
    ) -> None:
        self._replicas = replicas
        self._is_complete = is_complete
        self._resolver = resolver
        self._recent = recent
        self._base_models = base_models
        self._default = DefaultAdapter(default_adapter, resolver, base_models)
        self._in_flight = in_flight
        self._max_body_bytes = max_body_bytes
        self._max_body_values = max_body_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await refuse_socket(scope, send)
            return
        has_parts = is_form(scope)
        try:
            content = await read_body(
                receive,
                self._max_body_bytes,
                is_text=not has_parts,
                max_values=self._max_body_values,
            )
        except RegistryError as error:
            await send_refusal(send, error, path=scope["path"])
            return
        if content is None:  # the client left before the request was complete
            return
        body = RequestBody(content, has_parts=has_parts)
        rates, models = request_rates(scope), _fanned_out(scope, body)
        try:
            counted = await self._begin(scope, body, rates, models)
        except (EngineError, RateLimitExceeded) as error:
            await send_refusal(send, error, path=scope["path"])
            return
        response = ProxiedResponse(send, scope["path"], counted.begin_answer)
        try:
            await self._serve(scope, body, rates, models, receive, response)
        except EngineError as error:  # nothing was sent
            await send_refusal(send, error, path=scope["path"])
        finally:
            counted.end()

    async def _begin(
        self, scope: Scope, body: RequestBody, rates: RequestRates | None, models: Models
    ) -> InFlight:
        """Take what the request needs of its caller's limits. Raises what refuses it."""
        if names_stored_response(scope):  # to read or end work that has been counted
            return uncounted()
        if rates is not None and models:  # each is a request, which no replica counts
            await rates.take("requests", len(models))
            await take_tokens_of_models(rates, body, models)
        elif rates is not None and scope["method"] == "POST":
            await take_tokens(rates, body)
        try:
            return self._in_flight.begin()
        except EngineError:
            if rates is not None:
                rates.count("tokens", 0)  # the estimate is given back: nothing is generated
            raise

    async def _serve(
        self,
        scope: Scope,
        body: RequestBody,
        rates: RequestRates | None,
        models: Models,
        receive: Receive,
        response: ProxiedResponse,
    ) -> None:
        """Raises EngineUnavailable if it can't be known who has the response that it names."""
        try:
            request = await self._request(scope, body, [each["model"] for each in models])
        except EngineError:
            if rates is not None:
                rates.count("tokens", 0)
            raise
        request = replace(request, counts_tokens=rates is not None)
        answering = self._forward(request, response, rates)
        if is_in_background(scope, body):
            await answering
        else:
            await while_connected(response.until_whole(receive), answering)
        if rates is not None and rates.used("tokens") is None:
            _count_untold(rates, response, body)

    async def _request(
        self, scope: Scope, body: RequestBody, models: Iterable[str]
    ) -> ForwardedRequest:
        only = await replica_with_response(self._replicas, scope, body)
        version = await self._version(scope, body)
        near = self._recent.replicas_with(version.id) if version is not None else frozenset()
        rank = await self._largest_rank(scope, body, models)
        return ForwardedRequest(_scope_of(scope), body.content, version, near, rank=rank, only=only)

    async def _version(self, scope: Scope, body: RequestBody) -> AdapterVersion | None:
        """None for the base model, and for a name that can't be resolved: a replica reports why."""
        if scope["method"] != "POST":
            return None
        named = read_requested_model(scope, await self._default.apply(scope, body))
        model = named.model
        if model is None or model in self._base_models:
            return None
        try:
            return await self._resolver.resolve(model, named.draw)
        except RegistryError:
            return None

    async def _largest_rank(self, scope: Scope, body: RequestBody, models: Iterable[str]) -> int:
        """Of the adapters of a fan-out: one replica asks them all."""
        rank, asked = 0, {**scope, "path": scope.get("root_path", "") + COMPLETIONS}
        for model in models:
            content = json.dumps({"model": model, "user": body.members.get("user")})
            version = await self._version(asked, RequestBody(content.encode()))
            rank = max(rank, version.rank if version is not None else 0)
        return rank

    async def _forward(
        self, request: ForwardedRequest, response: ProxiedResponse, rates: RequestRates | None
    ) -> None:
        """Try another replica until the response has started."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._attempt(request, response, rates)
            except NoReplica:
                await response.refuse(NONE_ANSWERS)
            except ReplicaLost as error:
                logger.warning("a replica was lost: %s", error)
                if response.started:
                    await response.abort()
                    return
            if response.started:
                return
            if attempt < _ATTEMPTS:
                request = replace(request, avoid=request.avoid | response.drop())
        if response.is_of_rank and not await self._is_complete():
            await response.refuse(MISSING)
        else:
            await response.finish()

    async def _attempt(
        self, request: ForwardedRequest, response: ProxiedResponse, rates: RequestRates | None
    ) -> None:
        async with self._replicas.forward(request) as batches, aclosing(batches):
            async for batch in batches:
                for message in batch:
                    if rates is not None and message["type"] == TOKENS_USED:
                        rates.count("tokens", message["tokens"])
                    else:
                        await response.receive(message)
                if request.version is not None and response.is_good:
                    self._recent.record(request.version.id, response.replica)


def _count_untold(rates: RequestRates, response: ProxiedResponse, body: RequestBody) -> None:
    """The tokens of an answer whose replica told none. Of what is not known, the estimate stands.

    The client of a stream may have left: its prompt is estimated by its length, and the tokens of
    the answer by the events that came.
    """
    if response.started and not response.is_good:
        rates.count("tokens", 0)
    elif response.is_stream:
        rates.count("tokens", estimated_prompt(len(body.content)) + response.events)


def _fanned_out(scope: Scope, body: RequestBody) -> Models:
    """The models of a fan-out; none of any other request."""
    is_fanout = scope["method"] == "POST" and route_path(scope) == FANOUT
    return models_of(body.members) if is_fanout else ()


def _scope_of(scope: Scope) -> dict[str, Any]:
    return {name: scope[name] for name in _FORWARDED if name in scope}
