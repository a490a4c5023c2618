"""What somebody waits for an adapter to reach, such as the host tier."""

import asyncio

from engine.types import VersionId


class Milestones:
    """One future per awaited adapter, shared by all who wait for it."""

    def __init__(self) -> None:
        self._awaited: dict[VersionId, asyncio.Future[None]] = {}

    def expect(self, version: VersionId) -> asyncio.Future[None]:
        """Done when it is reached next, or with what `miss` is told. Shared, so shield it."""
        loop = asyncio.get_running_loop()
        return self._awaited.setdefault(version, loop.create_future())

    def reach(self, version: VersionId) -> None:
        awaited = self._awaited.pop(version, None)
        if awaited is not None and not awaited.done():
            awaited.set_result(None)

    def miss(self, version: VersionId, error: Exception) -> None:
        """It won't be reached this time."""
        awaited = self._awaited.pop(version, None)
        if awaited is not None and not awaited.done():
            awaited.set_exception(error)

    def awaited(self) -> list[VersionId]:
        """Whom somebody expects to reach it."""
        return list(self._awaited)

    def reach_all(self) -> None:
        for version in list(self._awaited):
            self.reach(version)

    def miss_all(self, error: Exception) -> None:
        for version in list(self._awaited):
            self.miss(version, error)
