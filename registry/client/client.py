"""The two clients: the same calls, waited for or awaited."""

from types import TracebackType
from typing import Self, TypeVar

import httpx

from registry.client.adapters import Adapters
from registry.client.aliases import Aliases
from registry.client.async_sender import AsyncSender
from registry.client.cache import Cache
from registry.client.events import Events
from registry.client.http import Options
from registry.client.jobs import Jobs
from registry.client.keys import Keys
from registry.client.serving import Serving
from registry.client.sync_sender import SyncSender
from registry.client.tenants import Tenants
from registry.client.transfer import Transfer
from registry.client.versions import Versions
from registry.client.webhooks import Webhooks

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
