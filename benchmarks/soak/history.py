"""History of an adapter in a soak: what its aliases meant and when, to judge every response."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.soak.variants import Content
from benchmarks.soak.version_history import FOREVER, VersionHistory
from demo.tasks import Task


@dataclass(slots=True)
class Meaning:
    """An alias's weights by version, from the request until a later one was confirmed."""

    weights: dict[int, int]
    since: float
    until: float = FOREVER
    revision: int = 0  # as the server reports it; 0 until then


@dataclass(slots=True)
class AdapterHistory(VersionHistory[Content]):
    """The versions and the aliases of one adapter.

    `changing`: operators change an adapter one at a time, so that its history is certain.
    """

    aliases: dict[str, list[Meaning]] = field(default_factory=dict)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def now(self, alias: str) -> Meaning:
        return self.aliases[alias][-1]

    def is_purged(self, version: int) -> bool:
        return self.is_retired(version) and self.retirements[version][-1].purged

    def restorable(self) -> list[int]:
        """Retired versions that are not known to be purged."""
        return [n for n in self.versions if self.is_retired(n) and not self.is_purged(n)]

    def idle(self) -> list[int]:
        """Live versions that no alias means."""
        meant = {number for alias in self.aliases for number in self.now(alias).weights}
        return [number for number in self.live() if number not in meant]

    @contextmanager
    def move(self, alias: str, weights: Mapping[int, int]) -> Iterator[Meaning]:
        """Within the block either meaning is right; if it fails nothing was moved."""
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

    def meanings(self, alias: str, begin: float, end: float) -> list[Meaning]:
        """What it may have meant for a request that began and was resolved between the two."""
        return [m for m in self.aliases[alias] if m.since <= end and m.until >= begin]

    def task(self, version: int) -> Task | None:
        content = self.versions.get(version)
        return content.task if content else None
