"""Replica: a whole engine with its cache controller, called by an ingress."""

from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from engine.errors import EngineError, EngineUnavailable
from engine.gateway.pinned_resolver import pin_reference
from fleet.cut_answer import end_answer
from fleet.messages import (
    TOKENS_USED,
    EngineFacts,
    ForwardedRequest,
    Messages,
    ReplicaResidency,
    ReplicaResult,
)
from fleet.proxied_response import REPLICA_HEADER
from fleet.replica.asgi_call import AsgiCall
from fleet.replica.operations import Operations
from fleet.replica.server import ReplicaServer
from registry.errors import RegistryError
from registry.http.rate_limits import with_rates
from registry.rates.caller_rates import uncounted_rates

_OTHER = "the replica that has this response can't be reached"


class Replica:
    """`name` is unique in the fleet. Runs on the server's event loop.

    `silent_seconds`: a request that answers nothing for so long is given up.
    """

    def __init__(
        self, name: str, server: ReplicaServer, facts: EngineFacts, *, silent_seconds: float
    ) -> None:
        self._silent_seconds = silent_seconds
        self._name = name
        self._server = server
        self._max_rank = facts.max_rank
        self._operations = Operations(name, server, facts)

    def handle(self, request: ForwardedRequest) -> AsyncGenerator[Messages]:
        """The application's response as it comes. Raises what the application raises."""
        if request.only not in (None, self._name):
            return _refuse(EngineUnavailable(_OTHER), request.scope["path"])

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            rates = uncounted_rates() if request.counts_tokens else None
            counted = scope if rates is None else with_rates(scope, rates)
            with pin_reference(request.reference):
                await self._server.app(counted, receive, _add_name(self._name, send))
            if rates is not None and (tokens := rates.used("tokens")) is not None:
                await send({"type": TOKENS_USED, "tokens": tokens})

        silent = self._silent_seconds
        return AsgiCall(application, request.scope, request.body, silent_seconds=silent).messages()

    async def call(
        self, operation: str, arguments: tuple[Any, ...], only: frozenset[str] | None
    ) -> ReplicaResult[Any] | None:
        """Call a method of `Operations`; None if this replica is not among `only`."""
        if only is not None and self._name not in only:
            return None
        try:
            value = await getattr(self._operations, operation)(*arguments)
        except (EngineError, RegistryError) as error:
            return ReplicaResult(self._name, failure=error)
        return ReplicaResult(self._name, value)

    def residency(self) -> ReplicaResidency:
        snapshot = self._server.controller.snapshot()
        return ReplicaResidency(
            self._name,
            slots=frozenset(r.version.id for r in snapshot.gpu if not r.leaving),
            host=frozenset(r.version.id for r in snapshot.host if not r.leaving),
            engine_up=snapshot.engine_up,
            max_rank=self._max_rank,
        )


async def _refuse(error: EngineError, path: str) -> AsyncGenerator[Messages]:
    yield await end_answer(error, path, None)


def _add_name(replica: str, send: Send) -> Send:
    """Adds a header with the replica's name to each response."""

    async def send_with_name(message: Message) -> None:
        if message["type"] == "http.response.start":
            name = (REPLICA_HEADER, replica.encode())
            message = {**message, "headers": [*message["headers"], name]}
        await send(message)

    return send_with_name
