"""What the aliases of a soak mean and when, so that every answer can be judged afterwards."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from demo.tasks import Task

FOREVER = float("inf")


class NotDone(Exception):
    """What was asked for was surely not done."""


@dataclass(slots=True)
class Meaning:
    """From when its move was asked for until a later one was answered, both on our clock."""

    version: int
    since: float
    until: float = FOREVER


@dataclass(slots=True)
class Gone:
    """Retired: asked for and answered; and perhaps brought back: the same."""

    since: float
    surely: float = FOREVER
    returning: float = FOREVER
    back: float = FOREVER


@dataclass(slots=True)
class Known:
    """One adapter: its versions (number → what they do), its aliases, and when who was gone."""

    versions: dict[int, Task] = field(default_factory=dict)
    aliases: dict[str, list[Meaning]] = field(default_factory=dict)
    gone: dict[int, list[Gone]] = field(default_factory=dict)

    def now(self, alias: str) -> set[int]:
        """More than one where nobody knows whether a move took place."""
        return {m.version for m in self.aliases[alias] if m.until == FOREVER}

    def live(self) -> list[int]:
        return [number for number in self.versions if not self.is_gone(number)]

    def is_gone(self, version: int) -> bool:
        """Retired or just about to be, and not brought back."""
        times = self.gone.get(version, [])
        return times != [] and times[-1].back == FOREVER

    def pointed_at(self) -> set[int]:
        return {version for alias in self.aliases for version in self.now(alias)}

    @contextmanager
    def moving(self, alias: str, version: int) -> Iterator[None]:
        """While a move is under way either meaning is right, and for ever if nobody was told how
        it ended; if it was refused nothing was moved."""
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

    def may_return(self, task: Task) -> Gone | None:
        """Files that are registered again: what was purged is served again from now on."""
        same = [number for number, does in self.versions.items() if does is task]
        gone = next((self.gone[number][-1] for number in same if self.is_gone(number)), None)
        if gone is not None:
            gone.returning = time.monotonic()
        return gone

    def meant(self, alias: str, begin: float, end: float) -> set[int]:
        """What it may have meant for a request that began and was resolved between the two."""
        meanings = self.aliases[alias]
        return {m.version for m in meanings if m.since <= end and m.until >= begin}

    def must_serve(self, version: int, begin: float, end: float) -> bool:
        return all(end < gone.since or begin > gone.back for gone in self.gone.get(version, ()))

    def may_serve(self, version: int, begin: float, end: float) -> bool:
        times = self.gone.get(version, ())
        return not any(gone.surely < begin and end < gone.returning for gone in times)


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


def judge(known: Known, answer: Answer) -> str | None:
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
