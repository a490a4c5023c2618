"""History of an adapter under traffic: what its aliases meant and when, to judge every answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.soak.version_history import FOREVER, VersionHistory
from demo.tasks import Task


class NotDone(Exception):
    """What was asked for was surely not done."""


@dataclass(slots=True)
class Meaning:
    """From when its move was asked for until a later one was answered, both on our clock."""

    version: int
    since: float
    until: float = FOREVER


@dataclass(slots=True)
class AdapterHistory(VersionHistory[Task]):
    """The versions and the aliases of one adapter."""

    aliases: dict[str, list[Meaning]] = field(default_factory=dict)

    def now(self, alias: str) -> set[int]:
        """More than one if it is unknown whether a move took place."""
        return {m.version for m in self.aliases[alias] if m.until == FOREVER}

    def pointed_at(self) -> set[int]:
        return {version for alias in self.aliases for version in self.now(alias)}

    @contextmanager
    def move(self, alias: str, version: int) -> Iterator[None]:
        """Within the block either meaning is right, and forever if the outcome is unknown; if it
        was refused nothing was moved."""
        meanings = self.aliases.setdefault(alias, [])
        meaning = Meaning(version, time.monotonic())
        meanings.append(meaning)
        try:
            yield
        except NotDone:
            meanings.remove(meaning)
            raise
        for earlier in meanings[: meanings.index(meaning)]:
            earlier.until = min(earlier.until, time.monotonic())

    def meant(self, alias: str, begin: float, end: float) -> set[int]:
        """What it may have meant for a request that began and was resolved between the two."""
        meanings = self.aliases[alias]
        return {m.version for m in meanings if m.since <= end and m.until >= begin}


@dataclass(frozen=True, slots=True)
class Answer:
    """One request that was answered with 200, or refused because its version is retired."""

    name: str
    alias: str | None  # None: `version` was asked for
    version: int
    begin: float
    end: float
    word: str
    text: str
    retired: bool = False


def judge(known: AdapterHistory, answer: Answer) -> str | None:
    """What is wrong with it, or None."""
    if answer.alias is not None:
        meant = known.meant(answer.alias, answer.begin, answer.end)
        if answer.version not in meant:
            return f"{answer.name}@{answer.alias} meant {meant}, and {answer.version} answered"
    if answer.retired:
        if known.must_serve(answer.version, answer.begin, answer.end):
            return f"{answer.name}:{answer.version} was refused as retired, and is not"
        return None
    if not known.may_serve(answer.version, answer.begin, answer.end):
        return f"{answer.name}:{answer.version} answered after it was retired"
    task = known.versions[answer.version]
    expected = task.answer(answer.word)
    if answer.text != expected:
        return f"{answer.name}:{answer.version} ({task.describe}) said {answer.text!r}"
    return None
