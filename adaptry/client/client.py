"""`Client`, which blocks, and the subjects that it shares with `AsyncClient`."""

from types import TracebackType
from typing import Self, TypeVar

import httpx

from adaptry.client.resources.adapters import Adapters
from adaptry.client.resources.aliases import Aliases
from adaptry.client.resources.bases import Bases
from adaptry.client.resources.cache import Cache
from adaptry.client.resources.events import Events
from adaptry.client.resources.generate import Generation
from adaptry.client.resources.jobs import Jobs
from adaptry.client.resources.keys import Keys
from adaptry.client.resources.names import Names
from adaptry.client.resources.tenants import Tenants
from adaptry.client.resources.transfer import Transfer
from adaptry.client.resources.versions import Versions
from adaptry.client.resources.webhooks import Webhooks
from adaptry.client.transport.http import Options
from adaptry.client.transport.sync_transport import SyncTransport

T_co = TypeVar("T_co", covariant=True)

DEFAULT_SERVER = "http://127.0.0.1:8000"


class AllResources(Generation[T_co]):
    """The methods of both clients, by subject."""

    def __init__(self, transport: T_co) -> None:
        super().__init__(transport)
        self.adapters = Adapters(transport)
        self.versions = Versions(transport)
        self.aliases = Aliases(transport)
        self.names = Names(transport)
        self.bases = Bases(transport)
        self.jobs = Jobs(transport)
        self.events = Events(transport)
        self.webhooks = Webhooks(transport)
        self.keys = Keys(transport)
        self.tenants = Tenants(transport)
        self.cache = Cache(transport)
        self.transfer = Transfer(transport)


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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Opens no connection yet. Raises InvalidServer."""
        super().__init__(SyncTransport(Options(base_url, api_key, timeout_seconds), transport))

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
