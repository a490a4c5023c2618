"""Places for concurrent work, shared so that no tenant can keep the others out."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """A tenant gets another place while it holds fewer than are free; the first one always.

    So of eight places one tenant gets four, the next two, and each of two more gets one. The
    platform, which has no tenant, gets any free place.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._held: Counter[str | None] = Counter()

    @property
    def taken(self) -> int:
        return self._held.total()

    def has_place(self, tenant: str | None) -> bool:
        """Whether it would get a place."""
        free = self.count - self.taken
        return free > 0 and (tenant is None or self._held[tenant] < max(1, free))

    def take(self, tenant: str | None) -> None:
        """Take a place, even if there is none: check before."""
        self._held[tenant] += 1

    def give_back(self, tenant: str | None) -> None:
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]

    @contextmanager
    def hold(self, tenant: str | None) -> Iterator[None]:
        """Hold a place during the block."""
        self.take(tenant)
        try:
            yield
        finally:
            self.give_back(tenant)
