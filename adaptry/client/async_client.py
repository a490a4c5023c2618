"""`AsyncClient`: the methods of `Client` as coroutines."""

from types import TracebackType
from typing import Self

import httpx

from adaptry.client.client import AllResources
from adaptry.client.transport.async_transport import AsyncTransport
from adaptry.client.transport.http import Options
from adaptry.client.transport.requests import DEFAULT_SERVER


class AsyncClient(AllResources[AsyncTransport]):
    """Talks to one server on an event loop. The methods are those of `Client`."""

    def __init__(
        self,
        base_url: str = DEFAULT_SERVER,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Opens no connection yet. Raises InvalidServer."""
        super().__init__(AsyncTransport(Options(base_url, api_key, timeout_seconds), transport))

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
