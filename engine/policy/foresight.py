"""Foresight: which adapters are known to be used next, and in which order. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from engine.policy.decisions import Ticket
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.wait_queue import WaitQueue
from engine.types import VersionId


class Foresight:
    """Known uses: requests that wait for their adapter, and those that are expected to.

    Expected are requests that wait elsewhere, such as within their tenant's limits, and the first
    one for what was prefetched: that one until half as many others have waited as host memory has
    `places`, as it may never come. All are numbered in one order of arrival, and `orders` are
    called with those numbers. `on_change` is called after that, whenever an adapter's oldest waiter
    is another one.
    """

    def __init__(
        self,
        wait_queue: WaitQueue,
        orders: Sequence[EvictionOrder],
        on_change: Callable[[VersionId], None],
        places: int,
    ) -> None:
        self._wait_queue = wait_queue
        self._find_first_arrival = wait_queue.find_first_arrival
        self._orders = orders
        self._on_change = on_change
        self._expected: dict[VersionId, OrderedDict[Ticket, int]] = {}
        self._next_uses: dict[VersionId, int] = {}
        self.prefetched: OrderedDict[VersionId, Ticket] = OrderedDict()  # until a request comes
        self._most_prefetched = max(places // 2, 1)
        self._tickets = 0
        wait_queue.on_change = self.refresh

    def expect(self, version: VersionId) -> Ticket:
        """A request for it will arrive. `forget` has to follow."""
        self._tickets += 1
        uses = self._expected.setdefault(version, OrderedDict())
        uses[self._tickets] = self._wait_queue.number_arrival()
        self.refresh(version)
        return self._tickets

    def forget(self, version: VersionId, ticket: Ticket) -> None:
        """It arrives now, or never will."""
        uses = self._expected[version]
        del uses[ticket]
        if not uses:
            del self._expected[version]
        self.refresh(version)

    def expect_prefetched(self, version: VersionId) -> None:
        """It is loaded ahead of its next request, if none waits for it already."""
        if self._find_first_arrival(version) is not None:
            return
        self._end_prefetch(version)
        self.prefetched[version] = self.expect(version)
        self._forget_old_prefetches()

    def note_request(self, version: VersionId) -> None:
        """One has come for it, which is expected no longer; nor is what was for too long."""
        if self.prefetched:  # seldom
            self._end_prefetch(version)
            self._forget_old_prefetches()

    def _end_prefetch(self, version: VersionId) -> None:
        if version in self.prefetched:
            self.forget(version, self.prefetched.pop(version))

    def _forget_old_prefetches(self) -> None:
        latest = self._wait_queue.arrivals - self._most_prefetched
        while self.prefetched:
            oldest, ticket = next(iter(self.prefetched.items()))
            if self._expected[oldest][ticket] > latest:
                return
            self._end_prefetch(oldest)

    def next_use(self, version: VersionId) -> int | None:
        """The lower, the sooner; None: not known."""
        waiting = self._find_first_arrival(version)
        if version not in self._expected:
            return waiting
        expected = next(iter(self._expected[version].values()))
        return expected if waiting is None else min(expected, waiting)

    def refresh(self, version: VersionId) -> None:
        use = self._find_first_arrival(version)
        if version in self._expected:
            use = self.next_use(version)
        if use != self._next_uses.get(version):
            if use is None:
                del self._next_uses[version]
            else:
                self._next_uses[version] = use
            for order in self._orders:
                order.foresee(version, use)
        self._on_change(version)
