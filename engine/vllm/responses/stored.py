"""Stored responses: vLLM's own store of `/v1/responses`, with owners and a bound.

vLLM (0.32) keeps responses, messages and events in a dictionary each, and the work of those in the
background in a fourth. It removes nothing from the first three, and asks nobody whose they are.
`StoredResponses` replaces the three, and `BackgroundResponses` the fourth.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from typing import Any

from registry.auth.caller import current_caller

Tenant = str | None
Key = tuple[Tenant, str]
"""A response's owner, and the id by which it, or vLLM, calls it."""


class OwnTable(MutableMapping[str, Any]):
    """One of vLLM's dictionaries by response id, of which each caller has his tenant's part.

    Another tenant's id is unknown, and one that a client chooses replaces nobody else's.
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


class StoredResponses:
    """At most `most` that have ended, beside those that are worked on.

    The oldest of the tenant that has most makes room: nobody's load ends what others have stored.
    It outlives an engine, whose successor gets new dictionaries from vLLM.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._working: dict[Key, asyncio.Task[Any]] = {}
        self._ended: dict[Tenant, OrderedDict[str, None]] = {}
        self._ended_count = 0
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
        self._ended.setdefault(tenant, OrderedDict())[response_id] = None
        self._ended_count += 1
        while self._ended_count > self._most:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        tenant = max(self._ended, key=lambda each: len(self._ended[each]))
        key = tenant, next(iter(self._ended[tenant]))
        self._remove_ended(key)
        for table in (self.responses, self.messages, self.events):
            table.values_by_key.pop(key, None)

    def _remove_ended(self, key: Key) -> None:
        tenant, response_id = key
        own = self._ended.get(tenant)
        if own is None or response_id not in own:
            return
        del own[response_id]
        self._ended_count -= 1
        if not own:
            del self._ended[tenant]


def _key(response_id: str) -> Key:
    return current_caller().tenant, response_id
