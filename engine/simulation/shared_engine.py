"""Shared engine: a simulated engine that shares its steps among the requests that run.

A step makes one token for each request that runs and takes longer the more there are; a prompt
keeps the engine for itself. So tokens are made at one rate for all at a time, and the moment at
which a request ends is known as long as no other request comes or goes.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from engine.simulation.agenda import Agenda
from engine.types import CacheOutcome, VersionId

BASE_MODEL = VersionId(0)
"""In place of an adapter: the request needs no slot."""

_NOTHING = 1e-6  # of a step


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured times: see docs/scale.md.

    The last two are spreads, each value as likely as another; empty: nothing, and none.
    """

    step_seconds: float
    step_seconds_per_request: float
    prefill_seconds: float
    load_seconds: float  # disk → host memory, beside the engine
    activate_seconds: float  # host memory → slot
    max_running: int = 256
    prefill_seconds_per_token: float = 0.0  # besides `prefill_seconds`
    load_seconds_per_byte: float = 0.0  # besides `load_seconds`
    activate_seconds_per_byte: float = 0.0
    overheads: tuple[float, ...] = ()  # until the first token, outside of the engine
    load_factors: tuple[float, ...] = ()  # of a load's time

    def step(self, running: int) -> float:
        return self.step_seconds + running * self.step_seconds_per_request

    def prefill(self, prompt_tokens: int) -> float:
        return self.prefill_seconds + prompt_tokens * self.prefill_seconds_per_token

    def overhead(self, number: int) -> float:
        """Of that request."""
        return _pick(self.overheads, number) if self.overheads else 0.0

    def load(self, number: int, size_bytes: int) -> float:
        """The seconds of that load."""
        seconds = self.load_seconds + size_bytes * self.load_seconds_per_byte
        return seconds * _pick(self.load_factors, number) if self.load_factors else seconds


def _pick(values: tuple[float, ...], number: int) -> float:
    """At random, but the same for the same number: Knuth's multiplicative hash."""
    return values[(number * 2654435761 % 2**32) * len(values) >> 32]


@dataclass(slots=True)
class Request:
    """The last four are None until they are known. Times in seconds.

    `outcome` None at the end: it got no slot, or needed none; `refused`: since too many waited
    already, or for too long.
    """

    number: int
    adapter: VersionId
    tokens: int
    arrived_at: float
    prompt_tokens: int = 0
    refused: bool = False
    outcome: CacheOutcome | None = None
    granted_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None


@dataclass
class SharedEngine:
    """Generates tokens for all running requests. `ended` is called with each completed one."""

    agenda: Agenda
    costs: Costs
    ended: Callable[[Request], None]
    _made: float = 0.0  # tokens that each request would have that had run from the beginning
    _since: float = 0.0  # `_made` is of that time; the engine has no time for tokens before it
    _running: list[tuple[float, int, Request]] = field(default_factory=list)
    _waiting: deque[Request] = field(default_factory=deque)
    _plan: int = 0

    def add(self, request: Request) -> None:
        """It joins the others when the step that has begun is done."""
        self._advance()
        left = math.ceil(self._made - _NOTHING) - self._made if self._running else 0.0
        if left > _NOTHING and self._since <= self.agenda.now:
            seconds = left * self.costs.step(len(self._running))
            self.agenda.after(seconds, lambda: self._join(request))
        else:
            self._join(request)

    def _join(self, request: Request) -> None:
        if len(self._running) >= self.costs.max_running:
            self._waiting.append(request)
            return
        self._advance()
        self._since = max(self._since, self.agenda.now) + self.costs.prefill(request.prompt_tokens)
        heapq.heappush(self._running, (self._made + request.tokens, request.number, request))
        made_at = self._since + self.costs.step(len(self._running))
        request.first_token_at = made_at + self.costs.overhead(request.number)
        self._foresee()

    def _advance(self) -> None:
        now = self.agenda.now
        if now > self._since:
            if self._running:
                self._made += (now - self._since) / self.costs.step(len(self._running))
            self._since = now

    def _foresee(self) -> None:
        """The time at which the next request ends, if nothing else happens before."""
        self._plan += 1
        if not self._running:
            return
        plan, left = self._plan, max(self._running[0][0] - self._made, 0.0)
        at = self._since + left * self.costs.step(len(self._running))
        self.agenda.at(at, lambda: self._end(plan))

    def _end(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._advance()
        self._made = self._running[0][0]  # not nearly
        complete = []
        while self._running and self._running[0][0] <= self._made:
            complete.append(heapq.heappop(self._running)[2])
        for request in complete:
            request.ended_at = self.agenda.now
            if self._waiting:
                self._join(self._waiting.popleft())
        self._foresee()
        for request in complete:
            self._release(request)

    def _release(self, request: Request) -> None:
        """Its lease begins before the server's part of it, and ends after that."""
        if seconds := self.costs.overhead(request.number):
            self.agenda.after(seconds, partial(self.ended, request))
        else:
            self.ended(request)
