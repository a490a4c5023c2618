"""Stored responses: vLLM's own store of `/v1/responses`, with owners and bounds.

vLLM (0.32) keeps responses, messages and events in a dictionary each, and the work of those in the
background in a fourth. It removes nothing from the first three, and does not ask whose they are.
`StoredResponses` replaces the three, and `BackgroundResponses` the fourth.
"""

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_core import to_json

from registry.auth.caller import current_caller

Tenant = str | None
Key = tuple[Tenant, str]
"""A response's owner, and the id by which it, or vLLM, calls it."""


class OwnTable(MutableMapping[str, Any]):
    """One of vLLM's dictionaries by response id, of which each caller has his tenant's part.

    Another tenant's id is unknown, and one that a client chooses replaces no other caller's.
    """

    def __init__(self, on_set: Callable[[Key], None]) -> None:
        self.values_by_key: dict[Key, Any] = {}
        self._on_set = on_set

    def __getitem__(self, response_id: str) -> Any:
        return self.values_by_key[_key(response_id)]

    def __setitem__(self, response_id: str, value: Any) -> None:
        key = _key(response_id)
        self.values_by_key[key] = value
        self._on_set(key)

    def __delitem__(self, response_id: str) -> None:
        del self.values_by_key[_key(response_id)]

    def __iter__(self) -> Iterator[str]:
        tenant = current_caller().tenant
        return iter([name for owner, name in self.values_by_key if owner == tenant])

    def __len__(self) -> int:
        return len(list(iter(self)))


@dataclass(slots=True)
class _Ended:
    """A tenant's, the oldest first, by the bytes of each."""

    sizes: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0

    def add(self, response_id: str, size_bytes: int) -> None:
        self.sizes[response_id] = size_bytes
        self.total_bytes += size_bytes

    def remove(self, response_id: str) -> None:
        self.total_bytes -= self.sizes.pop(response_id, 0)


class StoredResponses:
    """At most `most` that have ended, and `most_bytes` of them, beside those that are worked on.

    The oldest of the tenant that has most makes room: no tenant ends what others have stored.
    It outlives an engine, whose successor gets new dictionaries from vLLM.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._working: dict[Key, asyncio.Task[Any]] = {}
        self._ended: dict[Tenant, _Ended] = {}
        self.responses, self.messages, self.events = (OwnTable(self._on_set) for _ in range(3))

    def attach(self, serving: Any) -> None:
        """`serving`: vLLM's, of a new engine."""
        serving.response_store = self.responses
        serving.msg_store = self.messages
        serving.event_store = self.events

    def holds(self, tenant: Tenant, response_id: str) -> bool:
        return (tenant, response_id) in self.responses.values_by_key

    def _on_set(self, key: Key) -> None:
        if (task := asyncio.current_task()) is not None:
            self.note_work(key, task)

    def note_work(self, key: Key, task: "asyncio.Task[Any]") -> None:
        """It has not ended before this task has."""
        if self._working.get(key) is not task:
            self._remove_ended(key)
            self._working[key] = task
            task.add_done_callback(partial(self._on_end, key))

    def _on_end(self, key: Key, task: "asyncio.Task[Any]") -> None:
        if self._working.get(key) is not task:  # another one works on it now
            return
        del self._working[key]
        tenant, response_id = key
        size_bytes = sum(_size_bytes(table.values_by_key.get(key)) for table in self._tables())
        self._ended.setdefault(tenant, _Ended()).add(response_id, size_bytes)
        while sum(len(own.sizes) for own in self._ended.values()) > self._most:
            self._forget_oldest(lambda own: len(own.sizes))
        while sum(own.total_bytes for own in self._ended.values()) > self._most_bytes:
            self._forget_oldest(lambda own: own.total_bytes)

    def _tables(self) -> tuple[OwnTable, ...]:
        return self.responses, self.messages, self.events

    def _forget_oldest(self, amount: Callable[[_Ended], int]) -> None:
        tenant = max(self._ended, key=lambda each: amount(self._ended[each]))
        key = tenant, next(iter(self._ended[tenant].sizes))
        self._remove_ended(key)
        for table in self._tables():
            table.values_by_key.pop(key, None)

    def _remove_ended(self, key: Key) -> None:
        tenant, response_id = key
        if (own := self._ended.get(tenant)) is None:
            return
        own.remove(response_id)
        if not own.sizes:
            del self._ended[tenant]


def _size_bytes(stored: object) -> int:
    """As JSON: what it takes in memory is some times that."""
    try:
        return len(to_json(stored, bytes_mode="base64", fallback=str))
    except ValueError:  # text that is no UTF-8
        return len(repr(stored))


def _key(response_id: str) -> Key:
    return current_caller().tenant, response_id
