"""Shared engine: a simulated engine that shares its steps among the requests that run.

A step makes one token for each request that runs and takes longer the more there are; a prompt
keeps the engine for itself. So tokens are made at one rate for all at a time, and the moment at
which a request ends is known as long as no other request comes or goes.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from engine.simulation.agenda import Agenda
from engine.simulation.curve import on_lines
from engine.types import CacheOutcome, VersionId

BASE_MODEL = VersionId(0)
"""In place of an adapter: the request needs no slot."""

_NOTHING = 1e-6  # of a step
_OTHER_HASH = 22695477  # what a request draws from one spread says nothing of another


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured times: see docs/scale.md.

    `overheads`, `load_factors` and `first_token_factors` are spreads, each value as likely as
    another; empty: nothing, and none. `steps`: the seconds of a step of so many requests, where
    that was measured, fewer first; between them a step is on the line. It takes as long for as many
    tokens of a prompt, which is computed in one step with the others' tokens.
    """

    step_seconds: float
    step_seconds_per_request: float
    prefill_seconds: float
    load_seconds: float  # disk → host memory, beside the engine
    activate_seconds: float  # host memory → slot
    max_running: int = 256
    prefill_seconds_per_token: float = 0.0  # besides `prefill_seconds`, where nothing was measured
    load_seconds_per_byte: float = 0.0  # besides `load_seconds`
    activate_seconds_per_byte: float = 0.0
    overheads: tuple[float, ...] = ()  # until the first token, outside of the engine
    load_factors: tuple[float, ...] = ()  # of a load's time
    steps: tuple[tuple[float, float], ...] = ()
    first_token_factors: tuple[float, ...] = ()  # of its time in the engine: no step is as another
    first_use_seconds: float = 0.0  # of an adapter, before its request waits for a slot
    step_seconds_per_adapter: float = 0.0  # of each but the first in a step
    prompt_steps: tuple[tuple[float, float], ...] = ()

    def step(self, running: float) -> float:
        if not self.steps:
            return self.step_seconds + running * self.step_seconds_per_request
        return on_lines(self.steps, running, beyond=self.step_seconds_per_request)

    def prefill(self, prompts: int, tokens: int, decoding: int) -> float:
        """What so many prompts of so many tokens in all add to a step, in which as many others get
        a token. Those for which they are computed are counted in the step itself.
        """
        each = prompts * self.prefill_seconds
        if not self.steps:
            return each + tokens * self.prefill_seconds_per_token
        running = decoding + prompts
        total, known = decoding + max(tokens, prompts), max(self.steps[-1][0], running)
        longer = self.step(min(total, known)) - self.step(running)
        if total > known:
            longer += max(self._longer(total) - self._longer(known), 0.0)
        return each + longer

    def _longer(self, tokens: float) -> float:
        """By how much a step of more tokens than `steps` has is longer than the last of those."""
        points = ((self.steps[-1][0], 0.0), *self.prompt_steps)
        return on_lines(points, tokens, beyond=self.prefill_seconds_per_token)

    def overhead(self, number: int) -> float:
        """Of that request."""
        return _pick(self.overheads, number) if self.overheads else 0.0

    def until_first_token(self, number: int, seconds: float) -> float:
        """What that request takes in the engine until then, if steps of the mean take so long."""
        factors = self.first_token_factors
        return seconds * _pick(factors, number * _OTHER_HASH) if factors else seconds

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
    _steps: list[float] = field(default_factory=list)  # seconds, by how many run
    _adapters: Counter[VersionId] = field(default_factory=Counter)  # of those that run

    def add(self, request: Request) -> None:
        """It joins the others when the step that has begun is done."""
        self._advance()
        left = math.ceil(self._made - _NOTHING) - self._made if self._running else 0.0
        if left <= _NOTHING and self._beginning:
            left = 1.0  # of the step that makes their first tokens
        if left > _NOTHING and (self._beginning or self._since <= self.agenda.now):
            at = self._since + left * self._step_seconds()
            self.agenda.at(at, lambda: self._join(request))
        else:
            self._join(request)

    def _join(self, request: Request) -> None:
        if len(self._running) >= self.costs.max_running:
            self._waiting.append(request)
            return
        self._advance()
        self._since = max(self._since, self.agenda.now) + self._prefill(request.prompt_tokens)
        heapq.heappush(self._running, (self._made + request.tokens, request.number, request))
        if request.adapter != BASE_MODEL:
            self._adapters[request.adapter] += 1
        if self.whole_steps:
            self._beginning.append((self._made + 1, request))
        else:
            self._make_first(request, self._since + self._step_seconds())
        self._foresee()

    def _step_seconds(self) -> float:
        running, known = len(self._running), self._steps
        while len(known) <= running:
            known.append(self.costs.step(len(known)))
        if len(self._adapters) > 1:
            others = len(self._adapters) - 1
            return known[running] + others * self.costs.step_seconds_per_adapter
        return known[running]

    def _prefill(self, prompt_tokens: int) -> float:
        """What one more prompt adds to the step that begins."""
        prompts = len(self._beginning)
        tokens = sum(each.prompt_tokens for _, each in self._beginning)
        decoding = len(self._running) - prompts
        before = self.costs.prefill(prompts, tokens, decoding) if prompts else 0.0
        return self.costs.prefill(prompts + 1, tokens + prompt_tokens, decoding) - before

    def _make_first(self, request: Request, at: float) -> None:
        began = at if request.granted_at is None else request.granted_at
        taken = self.costs.until_first_token(request.number, at - began)
        request.first_token_at = began + taken + self.costs.overhead(request.number)

    def _advance(self) -> None:
        now = self.agenda.now
        if now > self._since:
            if self._running:
                step = self._step_seconds()
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
        at = self._since + left * self._step_seconds()
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
            self._forget_adapter(request.adapter)
            request.ended_at = self.agenda.now
            if self._waiting:
                self._join(self._waiting.popleft())
        self._foresee()
        for request in complete:
            self._release(request)

    def _forget_adapter(self, adapter: VersionId) -> None:
        """Of a request that no longer runs."""
        self._adapters[adapter] -= 1
        if self._adapters[adapter] <= 0:
            del self._adapters[adapter]

    def _release(self, request: Request) -> None:
        """Its lease begins before the server's part of it, and ends after that."""
        if seconds := self.costs.overhead(request.number):
            self.agenda.after(seconds, partial(self.ended, request))
        else:
            self.ended(request)
