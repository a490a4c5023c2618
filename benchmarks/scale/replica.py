"""Simulated replica: our cache policy, and an engine that shares its steps among requests.

A step makes one token for each request that runs and takes longer the more there are; a prompt
keeps the engine for itself. So tokens are made at one rate for all at a time, and the moment at
which a request ends is known as long as nobody comes or goes.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.policy.decisions import Activate, Commit, Evict, Grant, StartLoad
from engine.policy.policy import CachePolicy
from engine.types import CacheOutcome, VersionId


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured times: see docs/scale.md."""

    step_seconds: float
    step_seconds_per_request: float
    prefill_seconds: float
    load_seconds: float  # disk → host memory, beside the engine
    activate_seconds: float  # host memory → slot
    max_running: int = 256

    def step(self, running: int) -> float:
        return self.step_seconds + running * self.step_seconds_per_request


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a replica's cache, and how long requests wait for a slot."""

    slots: int
    host_capacity: int
    max_loads: int = 2
    patience_seconds: float = 2.0


@dataclass(slots=True)
class Request:
    """`first_token_at` and `ended_at` are None until they are known. Times in seconds."""

    number: int
    adapter: VersionId
    tokens: int
    arrived_at: float
    outcome: CacheOutcome | None = None
    first_token_at: float | None = None
    ended_at: float | None = None


class Agenda:
    """The queue of future events, ordered by time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (seconds, next(self._numbers), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def run(self) -> None:
        """Process events until there are none."""
        while self._due:
            self.now, _, what = heapq.heappop(self._due)
            what()


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
        if len(self._running) >= self.costs.max_running:
            self._waiting.append(request)
            return
        self._advance()
        self._since = max(self._since, self.agenda.now) + self.costs.prefill_seconds
        heapq.heappush(self._running, (self._made + request.tokens, request.number, request))
        request.first_token_at = self._since + self.costs.step(len(self._running))
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
                self.add(self._waiting.popleft())
        self._foresee()
        for request in complete:
            self.ended(request)


class Replica:
    """Serves requests. `load`: how many it has now; `loads`: loads from disk so far."""

    def __init__(self, name: str, agenda: Agenda, costs: Costs, shape: Shape) -> None:
        self.name = name
        self.load = self.loads = 0
        self.policy = CachePolicy(
            slots=shape.slots, host_capacity=shape.host_capacity, max_loads=shape.max_loads
        )
        self._agenda, self._costs, self._shape = agenda, costs, shape
        self._engine = SharedEngine(agenda, costs, self._ended)
        self._pending: dict[int, Request] = {}

    def take(self, request: Request) -> None:
        self.load += 1
        if self.policy.try_lease(request.adapter):
            request.outcome = CacheOutcome.GPU_HIT
            self._engine.add(request)
            return
        self._pending[request.number] = request
        self.policy.arrive(request.number, request.adapter)
        self._agenda.after(self._shape.patience_seconds, lambda: self._has_waited(request.number))
        self._carry_out()

    def _has_waited(self, ticket: int) -> None:
        if ticket in self._pending:
            self.policy.drain_for(ticket)
            self._carry_out()
            self._agenda.after(self._shape.patience_seconds / 4, lambda: self._has_waited(ticket))

    def _carry_out(self) -> None:
        for decision in self.policy.advance():
            match decision:
                case StartLoad(version):
                    self.loads += 1
                    self._later(self._costs.load_seconds, self.policy.on_loaded, version)
                case Commit(version):
                    self._later(0.0, self.policy.on_moved, version)
                case Activate(version):
                    self._later(self._costs.activate_seconds, self.policy.on_moved, version)
                case Grant(ticket, _, outcome):
                    request = self._pending.pop(ticket)
                    request.outcome = outcome
                    self._engine.add(request)
                case Evict():
                    pass  # done once it is decided, as a step out of a slot is

    def _later(
        self, seconds: float, report: Callable[[VersionId], None], version: VersionId
    ) -> None:
        def happened() -> None:
            report(version)
            self._carry_out()

        self._agenda.after(seconds, happened)

    def _ended(self, request: Request) -> None:
        self.load -= 1
        self.policy.release(request.adapter)
        self._carry_out()
