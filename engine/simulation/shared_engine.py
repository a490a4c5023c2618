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
    """Generates tokens for all running requests. `ended` is called with each completed one.

    `whole_steps`: as in vLLM, a request waits for the step that has begun also where that is of a
    prompt, and the first tokens of all whose prompts are in a step come at its end. Without, it
    joins that step, which matters for first tokens, and hardly for which adapter is loaded.
    """

    agenda: Agenda
    costs: Costs
    ended: Callable[[Request], None]
    whole_steps: bool = False
    _made: float = 0.0  # tokens that each request would have that had run from the beginning
    _since: float = 0.0  # `_made` is of that time; the engine has no time for tokens before it
    _running: list[tuple[float, int, Request]] = field(default_factory=list)
    _waiting: deque[Request] = field(default_factory=deque)
    _beginning: deque[tuple[float, Request]] = field(default_factory=deque)
    """In whole steps, those whose first token is made when `_made` is so many."""
    _plan: int = 0

    def add(self, request: Request) -> None:
        """It joins the others when the step that has begun is done."""
        self._advance()
        left = math.ceil(self._made - _NOTHING) - self._made if self._running else 0.0
        if left <= _NOTHING and self._beginning:
            left = 1.0  # of the step that makes their first tokens
        if left > _NOTHING and (self._beginning or self._since <= self.agenda.now):
            at = self._since + left * self.costs.step(len(self._running))
            self.agenda.at(at, lambda: self._join(request))
        else:
            self._join(request)

    def _join(self, request: Request) -> None:
        if len(self._running) >= self.costs.max_running:
            self._waiting.append(request)
            return
        self._advance()
        self._since = max(self._since, self.agenda.now) + self.costs.prefill(request.prompt_tokens)
        heapq.heappush(self._running, (self._made + request.tokens, request.number, request))
        if self.whole_steps:
            self._beginning.append((self._made + 1, request))
        else:
            self._make_first(request, self._since + self.costs.step(len(self._running)))
        self._foresee()

    def _make_first(self, request: Request, at: float) -> None:
        request.first_token_at = at + self.costs.overhead(request.number)

    def _advance(self) -> None:
        now = self.agenda.now
        if now > self._since:
            if self._running:
                step = self.costs.step(len(self._running))
                made = self._made + (now - self._since) / step
                while self._beginning and self._beginning[0][0] <= made + _NOTHING:
                    first_made, request = self._beginning.popleft()
                    self._make_first(request, self._since + (first_made - self._made) * step)
                self._made = made
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
