"""The two clients: the same calls, waited for or awaited."""

from types import TracebackType
from typing import Self, TypeVar

import httpx

from adaptry.client.resources.adapters import Adapters
from adaptry.client.resources.aliases import Aliases
from adaptry.client.resources.cache import Cache
from adaptry.client.resources.events import Events
from adaptry.client.resources.generate import Serving
from adaptry.client.resources.jobs import Jobs
from adaptry.client.resources.keys import Keys
from adaptry.client.resources.tenants import Tenants
from adaptry.client.resources.transfer import Transfer
from adaptry.client.resources.versions import Versions
from adaptry.client.resources.webhooks import Webhooks
from adaptry.client.transport.async_transport import AsyncSender
from adaptry.client.transport.http import Options
from adaptry.client.transport.sync_transport import SyncSender

S_co = TypeVar("S_co", covariant=True)

DEFAULT_SERVER = "http://127.0.0.1:8000"


class _Calls(Serving[S_co]):
    """All that can be asked of a server, by subject."""

    def __init__(self, sender: S_co) -> None:
        super().__init__(sender)
        self.adapters = Adapters(sender)
        self.versions = Versions(sender)
        self.aliases = Aliases(sender)
        self.jobs = Jobs(sender)
        self.events = Events(sender)
        self.webhooks = Webhooks(sender)
        self.keys = Keys(sender)
        self.tenants = Tenants(sender)
        self.cache = Cache(sender)
        self.transfer = Transfer(sender)


class Client(_Calls[SyncSender]):
    """Talks to one server and waits for its answers. Safe to share between threads.

    `timeout_seconds` is how long an answer may take, where a call does not say otherwise. Every
    call raises NoAnswer, UnexpectedAnswer, and ApiError in the kinds that `errors` has.
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
        super().__init__(SyncSender(Options(base_url, api_key, timeout_seconds), transport))

    def close(self) -> None:
        """Close all connections."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Calls[AsyncSender]):
    """Talks to one server on an event loop. The calls are those of `Client`."""

    def __init__(
        self,
        base_url: str = DEFAULT_SERVER,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Opens no connection yet. Raises InvalidServer."""
        super().__init__(AsyncSender(Options(base_url, api_key, timeout_seconds), transport))

    async def close(self) -> None:
        """Close all connections."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
