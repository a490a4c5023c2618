"""Proxy: sends a request to the most suitable replica and streams its response back.

The reference is resolved here, once, so that every replica serves the same version.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from engine.errors import EngineError, SocketUnsupported
from engine.fanout.schemas import COMPLETIONS, models_of
from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.in_flight import InFlight
from engine.gateway.openai_errors import send_refusal
from engine.gateway.request_body import RequestBody, read_body
from engine.gateway.requested_model import FANOUT, read_requested_model
from engine.gateway.token_estimate import take_tokens, take_tokens_of_models
from engine.ports import Resolver
from engine.types import AdapterVersion
from fleet.ingress.recent_residency import RecentResidency
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
    *("root_path", "headers", "client", "server"),
)
_MULTIPART = b"multipart/"


class RequestLimit(Protocol):
    def begin(self) -> InFlight:
        """Count the running request until its end. Raises TenantLimitReached."""


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
                await _refuse_socket(scope, send)
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
            if rates is not None and models:  # each is a request, which no replica counts
                await rates.take("requests", len(models))
                await take_tokens_of_models(rates, body, models)
            elif rates is not None and scope["method"] == "POST":
                await take_tokens(rates, body)
            counted = self._in_flight.begin()
        except EngineError as error:
            if rates is not None:
                rates.count("tokens", 0)  # the estimate is given back: nothing is generated
            await send_refusal(send, error, path=scope["path"])
            return
        except RateLimitExceeded as error:
            await send_refusal(send, error, path=scope["path"])
            return
        try:
            version = await self._version(scope, body)
            near = self._recent.replicas_with(version.id) if version is not None else frozenset()
            rank = await self._largest_rank(scope, body, [each["model"] for each in models])
            request = ForwardedRequest(_scope_of(scope), content, version, near, rank=rank)
            request = replace(request, counts_tokens=rates is not None)
            response = ProxiedResponse(send, request.scope["path"], counted.begin_answer)
            await while_connected(receive, self._forward(request, response, rates))
            if rates is not None and response.started and not response.is_good:
                rates.count("tokens", 0)  # nothing was generated
        finally:
            counted.end()

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


def _fanned_out(scope: Scope, body: RequestBody) -> Sequence[Mapping[str, Any]]:
    """The models of a fan-out; none of any other request."""
    is_fanout = scope["method"] == "POST" and route_path(scope) == FANOUT
    return models_of(body.members) if is_fanout else ()


def _scope_of(scope: Scope) -> dict[str, Any]:
    return {name: scope[name] for name in _FORWARDED if name in scope}


async def _refuse_socket(scope: Scope, send: Send) -> None:
    """In words where the server can send them: a handshake that is only closed is a bare 403."""
    error = SocketUnsupported()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return

    async def send_to_handshake(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await send_refusal(send_to_handshake, error, path=scope["path"])
