"""Version history of an adapter: its versions, and when each was retired and restored.

Shared by the soak and the tests under traffic, which judge every response afterwards.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

FOREVER = float("inf")

EXPECTED_REFUSALS = {  # codes that an operator may get while others work too
    "pin": {"pin_budget_exceeded"},
    "unpin": {"not_pinned"},
    "evict": {"adapter_in_use", "adapter_pinned"},
    "purge": {"version_in_use"},
}

C = TypeVar("C")


@dataclass(slots=True)
class Retirement:
    """When it was requested and confirmed; and the same for a restoration. On our clock."""

    requested: float
    confirmed: float = FOREVER
    restore_requested: float = FOREVER
    restored: float = FOREVER
    purged: bool = False


@dataclass(slots=True)
class VersionHistory(Generic[C]):
    """`versions`: their content by number. `retirements`: by number, the oldest first."""

    versions: dict[int, C] = field(default_factory=dict)
    retirements: dict[int, list[Retirement]] = field(default_factory=dict)

    def live(self) -> list[int]:
        return [number for number in self.versions if not self.is_retired(number)]

    def is_retired(self, version: int) -> bool:
        """Retired, or a retirement was requested, and not restored."""
        times = self.retirements.get(version, [])
        return times != [] and times[-1].restored == FOREVER

    @contextmanager
    def retire(self, version: int) -> Iterator[None]:
        """Within the block requests may be refused; after it they must be."""
        times = self.retirements.setdefault(version, [])
        times.append(Retirement(time.monotonic()))
        try:
            yield
        except BaseException:
            times.pop()
            raise
        times[-1].confirmed = time.monotonic()

    def begin_restore(self, is_same: Callable[[C], bool]) -> Retirement | None:
        """Before content is registered again: a purged version of it may be served from now on."""
        same = [number for number, content in self.versions.items() if is_same(content)]
        found = next((self.retirements[n][-1] for n in same if self.is_retired(n)), None)
        if found is not None:
            found.restore_requested = time.monotonic()
        return found

    def must_serve(self, version: int, begin: float, end: float) -> bool:
        """Whether a refusal of a request between the two is an error."""
        times = self.retirements.get(version, ())
        return all(end < each.requested or begin > each.restored for each in times)

    def may_serve(self, version: int, begin: float, end: float) -> bool:
        """Whether a response to a request between the two may be of this version."""
        times = self.retirements.get(version, ())
        return not any(each.confirmed < begin and end < each.restore_requested for each in times)
