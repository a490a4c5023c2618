"""What the aliases of a soak mean and when, so that every answer can be judged afterwards."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak.variants import Content
from demo.tasks import Task

FOREVER = float("inf")


@dataclass(slots=True)
class Meaning:
    """Weight by version, from when it was asked for until a later one was answered: our clock."""

    weights: dict[int, int]
    since: float
    until: float = FOREVER
    revision: int = 0  # as the server says; 0 until it has


@dataclass(slots=True)
class Gone:
    """Retired: asked for and answered; and perhaps brought back: the same."""

    since: float
    surely: float = FOREVER
    returning: float = FOREVER
    back: float = FOREVER
    purged: bool = False


@dataclass(slots=True)
class Known:
    """One adapter: its versions (number → what they do), its aliases, and when who was gone.

    `changing`: operators change one adapter one after the other, so that its history is certain.
    """

    versions: dict[int, Content] = field(default_factory=dict)
    aliases: dict[str, list[Meaning]] = field(default_factory=dict)
    gone: dict[int, list[Gone]] = field(default_factory=dict)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def now(self, alias: str) -> Meaning:
        return self.aliases[alias][-1]

    def live(self) -> list[int]:
        return [number for number in self.versions if not self.is_gone(number)]

    def is_gone(self, version: int) -> bool:
        """Retired or just about to be, and not brought back."""
        times = self.gone.get(version, [])
        return times != [] and times[-1].back == FOREVER

    def is_purged(self, version: int) -> bool:
        return self.is_gone(version) and self.gone[version][-1].purged

    def retired(self) -> list[int]:
        """And not purged, as far as we know."""
        return [n for n in self.versions if self.is_gone(n) and not self.is_purged(n)]

    def idle(self) -> list[int]:
        """Live, and no alias means it."""
        meant = {number for alias in self.aliases for number in self.now(alias).weights}
        return [number for number in self.live() if number not in meant]

    @contextmanager
    def moving(self, alias: str, weights: Mapping[int, int]) -> Iterator[Meaning]:
        """While a move is under way either meaning is right; if it fails nothing was moved."""
        meanings = self.aliases.setdefault(alias, [])
        meaning = Meaning(dict(weights), time.monotonic())
        meanings.append(meaning)
        try:
            yield meaning
        except BaseException:
            meanings.remove(meaning)
            raise
        if len(meanings) > 1:
            meanings[-2].until = time.monotonic()

    @contextmanager
    def retiring(self, version: int) -> Iterator[None]:
        """From here on it may be refused; once the block has ended it has to be."""
        times = self.gone.setdefault(version, [])
        times.append(Gone(time.monotonic()))
        try:
            yield
        except BaseException:
            times.pop()
            raise
        times[-1].surely = time.monotonic()

    def may_return(self, folder: Path) -> Gone | None:
        """Files that are registered again: what was purged is served again from now on."""
        same = [number for number, has in self.versions.items() if has.folder == folder]
        gone = next((self.gone[number][-1] for number in same if self.is_gone(number)), None)
        if gone is not None:
            gone.returning = time.monotonic()
        return gone

    def meanings(self, alias: str, begin: float, end: float) -> list[Meaning]:
        """What it may have meant for a request that began and was resolved between the two."""
        return [m for m in self.aliases[alias] if m.since <= end and m.until >= begin]

    def must_serve(self, version: int, begin: float, end: float) -> bool:
        return all(end < gone.since or begin > gone.back for gone in self.gone.get(version, ()))

    def may_serve(self, version: int, begin: float, end: float) -> bool:
        times = self.gone.get(version, ())
        return not any(gone.surely < begin and end < gone.returning for gone in times)

    def task(self, version: int) -> Task | None:
        content = self.versions.get(version)
        return content.task if content else None
