"""One replica: a whole engine with its cache controller, which an entrance asks."""

from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from engine.errors import EngineError
from engine.gateway.pinned_resolver import resolved_before
from fleet.messages import Answered, EngineFacts, ForwardedRequest, Messages, Whereabouts
from fleet.proxied_response import REPLICA_HEADER
from fleet.replica.asgi_call import Exchange
from fleet.replica.operations import Operations
from fleet.replica.server import ReplicaServer
from registry.errors import RegistryError


class Replica:
    """`name`: unlike that of any other. Lives on the server's event loop."""

    def __init__(self, name: str, server: ReplicaServer, facts: EngineFacts) -> None:
        self._name = name
        self._server = server
        self._operations = Operations(name, server, facts)

    def answer(self, request: ForwardedRequest) -> AsyncGenerator[Messages]:
        """The application's messages as they come. Raises what the application raises."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            with resolved_before(request.reference):
                await self._server.app(scope, receive, _named(self._name, send))

        return Exchange(application, request.scope, request.body).messages()

    async def ask(
        self, operation: str, arguments: tuple[Any, ...], only: frozenset[str] | None
    ) -> Answered[Any] | None:
        """One of `Operations`; None if others are meant."""
        if only is not None and self._name not in only:
            return None
        try:
            value = await getattr(self._operations, operation)(*arguments)
        except (EngineError, RegistryError) as error:
            return Answered(self._name, failure=error)
        return Answered(self._name, value)

    def whereabouts(self) -> Whereabouts:
        snapshot = self._server.controller.snapshot()
        return Whereabouts(
            self._name,
            slots=frozenset(r.version.id for r in snapshot.gpu if not r.leaving),
            host=frozenset(r.version.id for r in snapshot.host if not r.leaving),
            up=snapshot.engine_up,
        )


def _named(replica: str, send: Send) -> Send:
    """Says in each answer who has given it."""

    async def send_with_name(message: Message) -> None:
        if message["type"] == "http.response.start":
            name = (REPLICA_HEADER, replica.encode())
            message = {**message, "headers": [*message["headers"], name]}
        await send(message)

    return send_with_name
