"""Waiters: shared futures for "this adapter has reached that state", such as the host tier."""

import asyncio

from engine.types import VersionId


async def wait_within(shared: asyncio.Future[None], seconds: float, error: Exception) -> None:
    """Wait for a future that others wait for too. Raises `error` after that time."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(shared)
    except TimeoutError:
        if not shared.done():  # else it ended at the last moment
            raise error from None
        shared.result()


class Waiters:
    """One future per adapter, shared by all who wait for it."""

    def __init__(self) -> None:
        self._futures: dict[VersionId, asyncio.Future[None]] = {}

    def wait_for(self, version: VersionId) -> asyncio.Future[None]:
        """Done at the next `resolve`, or failed by `fail`. Shared, so shield it."""
        loop = asyncio.get_running_loop()
        return self._futures.setdefault(version, loop.create_future())

    def resolve(self, version: VersionId) -> None:
        future = self._futures.pop(version, None)
        if future is not None and not future.done():
            future.set_result(None)

    def fail(self, version: VersionId, error: Exception) -> None:
        future = self._futures.pop(version, None)
        if future is not None and not future.done():
            future.set_exception(error)
            future.exception()  # retrieved: perhaps no request waits any more

    def versions(self) -> list[VersionId]:
        """The adapters that are waited for."""
        return list(self._futures)

    def resolve_all(self) -> None:
        for version in self.versions():
            self.resolve(version)

    def fail_all(self, error: Exception) -> None:
        for version in self.versions():
            self.fail(version, error)
