"""Turns between tenants at a few places: who waits longest of the tenant whose turn it is."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable


class Turns:
    """Gives a place that becomes free to the tenants that wait, one after another.

    So a tenant with many in line holds up another's next one by one of each tenant. While
    `is_narrow`, there is one place.
    """

    def __init__(self, count: int, is_narrow: Callable[[], bool] = lambda: False) -> None:
        self._count = count
        self._is_narrow = is_narrow
        self._taken = 0
        self._lines: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, tenant: str | None, *, within_seconds: float) -> bool:
        """Whether it got a place in time; then `give_back` must follow."""
        if not self._lines and self._has_place():
            self._taken += 1
            return True
        if within_seconds <= 0:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(turn)
        try:
            await asyncio.wait({turn}, timeout=within_seconds)
        except asyncio.CancelledError:
            if turn.done():
                self.give_back()
            else:
                self._leave(tenant, turn)
            raise
        if not turn.done():
            self._leave(tenant, turn)
        return turn.done()

    def give_back(self) -> None:
        """Give the place to the next tenant in line, or free it."""
        self._taken -= 1
        while self._lines and self._has_place():
            tenant, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[tenant] = line  # behind all others
            self._taken += 1
            turn.set_result(None)

    def _has_place(self) -> bool:
        return self._taken < (1 if self._is_narrow() else self._count)

    def _leave(self, tenant: str | None, turn: asyncio.Future[None]) -> None:
        line = self._lines[tenant]
        line.remove(turn)
        if not line:
            del self._lines[tenant]
