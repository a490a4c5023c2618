"""One lease, from the entry of a block to its exit."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

from engine.errors import EngineError
from engine.types import AdapterVersion, Lease, VersionId

Revoke = Callable[[], None]


class Lessor(Protocol):
    """Who gives leases and takes them back."""

    @property
    def clock(self) -> Callable[[], float]: ...

    async def enter(
        self, version: AdapterVersion, revoke: Revoke | None, waited_seconds: float
    ) -> tuple[Lease, int]:
        """The lease, and the engine that it is for."""

    def leave(self, version: VersionId, revoke: Revoke | None, engine: int, seconds: float) -> None:
        """`seconds`: how long it was held."""


class Hold(AbstractAsyncContextManager[Lease]):
    """One lease from entry to exit.

    No generator: the collector would end that by itself, perhaps before the block that holds it.
    """

    __slots__ = ("_began", "_engine", "_lessor", "_revoke", "_version", "_waited_seconds")

    def __init__(
        self,
        lessor: Lessor,
        version: AdapterVersion,
        revoke: Revoke | None,
        waited_seconds: float,
    ) -> None:
        self._lessor = lessor
        self._version = version
        self._revoke = revoke
        self._waited_seconds = waited_seconds
        self._engine = 0
        self._began = 0.0

    async def __aenter__(self) -> Lease:
        lease, self._engine = await self._lessor.enter(
            self._version, self._revoke, self._waited_seconds
        )
        self._began = self._lessor.clock()
        return lease

    async def __aexit__(self, *_: object) -> None:
        seconds = self._lessor.clock() - self._began
        self._lessor.leave(self._version.id, self._revoke, self._engine, seconds)


class TenantLessor(Protocol):
    """Lets a tenant's requests in, a few at a time, and then to the lessor of all."""

    async def enter(self, version: AdapterVersion) -> float:
        """The seconds that this took."""

    def admit(
        self, version: AdapterVersion, revoke: Revoke | None, waited_seconds: float
    ) -> AbstractAsyncContextManager[Lease]: ...

    def refused(self, version: AdapterVersion, error: EngineError) -> None: ...

    def leave(self, version: AdapterVersion) -> None: ...


class TenantHold(AbstractAsyncContextManager[Lease]):
    """A tenant's lease."""

    __slots__ = ("_entered", "_lessor", "_revoke", "_version")

    def __init__(
        self, lessor: TenantLessor, version: AdapterVersion, revoke: Revoke | None
    ) -> None:
        self._lessor = lessor
        self._version = version
        self._revoke = revoke
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> Lease:
        try:
            waited_seconds = await self._lessor.enter(self._version)
        except EngineError as error:
            self._lessor.refused(self._version, error)
            raise
        async with AsyncExitStack() as stack:
            stack.callback(self._lessor.leave, self._version)
            held = self._lessor.admit(self._version, self._revoke, waited_seconds)
            lease = await stack.enter_async_context(held)
            self._entered = stack.pop_all()
        return lease

    async def __aexit__(self, *_: object) -> None:
        await self._entered.aclose()
