"""`Client`, which blocks, and the subjects that it shares with `AsyncClient`."""

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from adaptry.client.resources.generate import Generation
from adaptry.client.transport.http import Options
from adaptry.client.transport.requests import DEFAULT_SERVER
from adaptry.client.transport.sync_transport import SyncTransport

if TYPE_CHECKING:
    import httpx

    from adaptry.client.resources.adapters import Adapters
    from adaptry.client.resources.aliases import Aliases
    from adaptry.client.resources.bases import Bases
    from adaptry.client.resources.cache import Cache
    from adaptry.client.resources.events import Events
    from adaptry.client.resources.jobs import Jobs
    from adaptry.client.resources.keys import Keys
    from adaptry.client.resources.names import Names
    from adaptry.client.resources.prompts import Prompts
    from adaptry.client.resources.server import ServerState
    from adaptry.client.resources.tenants import Tenants
    from adaptry.client.resources.transfer import Transfer
    from adaptry.client.resources.versions import Versions
    from adaptry.client.resources.webhooks import Webhooks

T_co = TypeVar("T_co", covariant=True)


class AllResources(Generation[T_co]):
    """The methods of both clients, by subject: each is imported when it is first used."""

    @cached_property
    def adapters(self) -> "Adapters[T_co]":
        from adaptry.client.resources.adapters import Adapters

        return Adapters(self._transport)

    @cached_property
    def versions(self) -> "Versions[T_co]":
        from adaptry.client.resources.versions import Versions

        return Versions(self._transport)

    @cached_property
    def aliases(self) -> "Aliases[T_co]":
        from adaptry.client.resources.aliases import Aliases

        return Aliases(self._transport)

    @cached_property
    def names(self) -> "Names[T_co]":
        from adaptry.client.resources.names import Names

        return Names(self._transport)

    @cached_property
    def prompts(self) -> "Prompts[T_co]":
        from adaptry.client.resources.prompts import Prompts

        return Prompts(self._transport)

    @cached_property
    def server(self) -> "ServerState[T_co]":
        from adaptry.client.resources.server import ServerState

        return ServerState(self._transport)

    @cached_property
    def bases(self) -> "Bases[T_co]":
        from adaptry.client.resources.bases import Bases

        return Bases(self._transport)

    @cached_property
    def jobs(self) -> "Jobs[T_co]":
        from adaptry.client.resources.jobs import Jobs

        return Jobs(self._transport)

    @cached_property
    def events(self) -> "Events[T_co]":
        from adaptry.client.resources.events import Events

        return Events(self._transport)

    @cached_property
    def webhooks(self) -> "Webhooks[T_co]":
        from adaptry.client.resources.webhooks import Webhooks

        return Webhooks(self._transport)

    @cached_property
    def keys(self) -> "Keys[T_co]":
        from adaptry.client.resources.keys import Keys

        return Keys(self._transport)

    @cached_property
    def tenants(self) -> "Tenants[T_co]":
        from adaptry.client.resources.tenants import Tenants

        return Tenants(self._transport)

    @cached_property
    def cache(self) -> "Cache[T_co]":
        from adaptry.client.resources.cache import Cache

        return Cache(self._transport)

    @cached_property
    def transfer(self) -> "Transfer[T_co]":
        from adaptry.client.resources.transfer import Transfer

        return Transfer(self._transport)


class Client(AllResources[SyncTransport]):
    """Talks to one server and blocks until it responds. Safe to share between threads.

    `timeout_seconds`: how long a response may take, unless a method takes its own timeout. Every
    method raises NoAnswer, UnexpectedAnswer, and the kinds of ApiError in `errors`.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_SERVER,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """Opens no connection yet. Raises InvalidServer."""
        from adaptry.client.transport.httpx_exchange import HttpxExchange

        options = Options(base_url, api_key, timeout_seconds)
        super().__init__(SyncTransport(options, HttpxExchange(options, transport)))

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class CommandClient(Client):
    """For a process that asks little and ends: it starts sooner, and is of one thread alone."""

    def __init__(
        self,
        base_url: str = DEFAULT_SERVER,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
    ) -> None:
        """Opens no connection yet. Raises InvalidServer."""
        from adaptry.client.transport.plain_exchange import PlainExchange

        options = Options(base_url, api_key, timeout_seconds)
        AllResources.__init__(self, SyncTransport(options, PlainExchange(options)))
