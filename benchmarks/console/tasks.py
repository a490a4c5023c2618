"""Tasks that both registries are asked to do, on an adapter of three versions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from playwright.sync_api import Page

from benchmarks.console.hand import Effort, Hand

MANY = 2000
"""Adapters beside those that are worked with."""
PART = "omer-00042"
"""Of the names of ten of them."""
DESCRIPTION = "Answers tickets"
ALIAS = "default"


def name_of(turn: int) -> str:
    """Each turn works with an adapter of its own: versions 1 and 2, `@default` at 1."""
    return f"support-{turn}"


class Registry(Protocol):
    """Pages of one registry. A task that it has no page for returns None."""

    name: str

    def visit_first(self, page: Page) -> None:
        """What only a user's first visit shows, and the browser's cache filled."""

    def find(self, hand: Hand, adapter: str) -> Effort | None: ...
    def register(self, hand: Hand, adapter: str) -> Effort | None: ...
    def promote(self, hand: Hand, adapter: str) -> Effort | None: ...
    def roll_back(self, hand: Hand, adapter: str) -> Effort | None: ...
    def edit(self, hand: Hand, adapter: str) -> Effort | None: ...
    def compare(self, hand: Hand, adapter: str) -> Effort | None: ...
    def retire(self, hand: Hand, adapter: str) -> Effort | None: ...
    def see_changes(self, hand: Hand, adapter: str) -> Effort | None: ...
    def look_back(self, hand: Hand, adapter: str) -> Effort | None: ...


@dataclass(frozen=True)
class Task:
    title: str
    do: Callable[[Registry, Hand, str], Effort | None]


TASKS = (
    Task(f"Find an adapter among {MANY:,} by part of its name", lambda r, h, a: r.find(h, a)),
    Task("Register a version", lambda r, h, a: r.register(h, a)),
    Task("Promote: move the alias `default` to version 2", lambda r, h, a: r.promote(h, a)),
    Task("Roll back: the alias to where it was", lambda r, h, a: r.roll_back(h, a)),
    Task("Describe it, and add a tag", lambda r, h, a: r.edit(h, a)),
    Task("Compare version 2 with version 1", lambda r, h, a: r.compare(h, a)),
    Task("Take version 2 away", lambda r, h, a: r.retire(h, a)),
    Task("See who changed what", lambda r, h, a: r.see_changes(h, a)),
    Task("What was in the slots at 02:50, and who evicted whom", lambda r, h, a: r.look_back(h, a)),
)
"""In the order in which each turn does them."""
