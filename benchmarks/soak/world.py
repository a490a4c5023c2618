"""World of a soak: what was done, the expected state of the registry, and the errors found."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.soak.answers import Answer, judge
from benchmarks.soak.history import AdapterHistory
from benchmarks.soak.variants import Content, Variants
from benchmarks.soak.version_history import EXPECTED_REFUSALS


class Refused(Exception):
    """The server refused; already counted."""


@dataclass
class World:
    """`done` counts responses by kind; `events` counts the expected events."""

    http: httpx.AsyncClient
    random: random.Random
    variants: Variants
    known: dict[str, AdapterHistory] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    base: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answers: int = 0
    sizes: dict[Content, int] = field(default_factory=dict)
    purging: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def complain(self, text: str) -> None:
        self.wrong.append(text)

    @property
    def changes(self) -> int:
        """The number of expected events."""
        return self.events.total()

    def stored(self) -> set[Content]:
        """Content whose files must be in the store. Adapters share the demo's own."""
        return {
            content
            for known in self.known.values()
            for number, content in known.versions.items()
            if not known.is_purged(number)
        }

    def live_bytes(self) -> int:
        return sum(self.sizes.setdefault(each, each.size_bytes) for each in self.stored())

    def record(self, answer: Answer) -> None:
        """Count and judge a response: all changes up to its end are known by now."""
        self.answers += 1
        self.done[f"request {answer.outcome}"] += 1
        if answer.outcome == "answered":
            self.done[f"  {answer.kind}" if answer.name else "  base model"] += 1
        if answer.cache:
            self.done[f"cache {answer.cache}"] += 1
        if (error := judge(self.known, self.base, answer)) is not None:
            self.complain(error)

    async def operate(self, what: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send an operator's request. Raises Refused."""
        response = await self.http.request(method, f"/api/v1{path}", **options)
        content: dict[str, Any] = response.json() if response.content else {}
        if response.is_success:
            self.done[what] += 1
            return content
        code = str(content.get("code"))
        self.done[f"{what}: {code}"] += 1
        if code not in EXPECTED_REFUSALS.get(what, set()):
            self.complain(f"{what} {path}: {response.status_code} {response.text[:300]}")
        raise Refused(code)

    def zipf_choice(self) -> str:
        """A name with the clients' distribution."""
        weights = [1 / rank for rank in range(1, len(self.names) + 1)]
        return self.random.choices(self.names, weights)[0]
