"""Expected state: what many clients did on a server, its outcome, and what it should be."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.soak.version_history import EXPECTED_REFUSALS
from tests.support.traffic.alias_history import AdapterHistory, NotDone


class Refused(NotDone):
    """By the server; counted already."""


class Unsure(Exception):
    """By a server in trouble, which may have done it nevertheless; counted already."""


@dataclass
class Outage:
    """While it lasts, connections may be lost."""

    begin: float
    end: float = float("inf")


@dataclass
class World:
    """`retryable`: codes that a client may be told just now, with 429, 503 or 507.

    `registered`: what the server has said that it has, by name and number.
    """

    http: httpx.AsyncClient
    random: random.Random
    known: dict[str, AdapterHistory] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    registered: set[tuple[str, int]] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    changes: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    retryable: frozenset[str] = frozenset()
    outages: list[Outage] = field(default_factory=list)
    patience_seconds: float = 120.0

    def complain(self, text: str) -> None:
        self.wrong.append(text)

    def lost_connection(self, what: str, began: float, error: Exception) -> None:
        """A request that began then and ended now without an answer."""
        if any(began <= outage.end for outage in self.outages):
            self.done["connection lost"] += 1
        else:
            self.complain(f"{what}: {error!r}")

    def cut_off(self, what: str, code: str) -> None:
        """A stream that ended with an error after its first token."""
        self.done[f"cut off {code}"] += 1
        if code not in self.retryable:
            self.complain(f"{what}: cut off, {code}")

    def may_refuse(self, status: int, code: str) -> bool:
        return status in (429, 503, 507) and code in self.retryable

    async def operate(self, what: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Raises Refused for what the server does not do, Unsure or httpx's errors in trouble."""
        response = await self.http.request(method, f"/api/v1{path}", **options)
        try:
            content: dict[str, Any] = response.json() if response.content else {}
        except ValueError:  # Ray's proxy says so while it is killed: no answer, as if it were lost
            said = f"{response.status_code} {response.text[:80]!r}"
            raise httpx.RemoteProtocolError(said) from None
        if response.is_success:
            self.done[what] += 1
            return content
        code = str(content.get("code"))
        self.done[f"{what}: {code}"] += 1
        if self.may_refuse(response.status_code, code):
            raise Unsure(code)
        if code not in EXPECTED_REFUSALS.get(what, set()):
            self.complain(f"{what} {path}: {response.status_code} {response.text[:300]}")
        raise Refused(code)

    async def again(self, action: Any, pause_seconds: float) -> None:
        """Until `over`."""
        while not self.over.is_set():
            began = time.monotonic()
            try:
                async with asyncio.timeout(self.patience_seconds):
                    await action(self)
            except TimeoutError:
                self.complain(f"stuck: {action.__name__} took {self.patience_seconds:.0f} s")
            except httpx.TransportError as error:
                self.lost_connection(action.__name__, began, error)
                await asyncio.sleep(0.1)
            except (Refused, Unsure):
                await asyncio.sleep(0.05)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.complain(f"{action.__name__}: {error!r}")
            await asyncio.sleep(pause_seconds)
