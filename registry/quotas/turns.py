"""Turns between tenants at a few places: who waits longest of the tenant whose turn it is."""

import asyncio
from collections import OrderedDict, deque


class Turns:
    """Gives a place that becomes free to the tenants that wait, one after another.

    So a tenant with many in line holds up another's next one by one of each tenant.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lines: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, tenant: str | None, *, within_seconds: float) -> bool:
        """Whether it got a place in time; then `give_back` must follow."""
        if self._free > 0:
            self._free -= 1
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
        if not self._lines:
            self._free += 1
            return
        tenant, line = self._lines.popitem(last=False)
        turn = line.popleft()
        if line:
            self._lines[tenant] = line  # behind all others
        turn.set_result(None)

    def _leave(self, tenant: str | None, turn: asyncio.Future[None]) -> None:
        line = self._lines[tenant]
        line.remove(turn)
        if not line:
            del self._lines[tenant]
