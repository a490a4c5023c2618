"""Messages between the ingress and its replicas. All of them can be pickled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from starlette.types import Message

from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineError, EngineUnavailable
from engine.telemetry.decision_log import LoggedEvent
from engine.types import AdapterVersion, Tier, VersionId
from fleet.placement import Nearness
from registry.errors import RegistryError
from registry.inspection.supported_modules import SupportedModules

Value = TypeVar("Value")

Messages = Sequence[Message]
"""Of an ASGI response, in order."""

TOKENS_USED = "adaptry.tokens_used"
"""Type of the message that follows a response, with the number `tokens`."""

Failure = EngineError | RegistryError


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """One whole HTTP request. `version`: what its model was resolved to, if it was.

    `rank`: the largest that its replica has to serve, of one that names several models. `near`:
    replicas that held it a few seconds ago. `avoid`: replicas that failed to answer it.
    `counts_tokens`: its response is to be followed by a message with the tokens that it used.
    `only`: the one replica that can answer it; None: any.
    """

    scope: Mapping[str, Any]
    body: bytes
    version: AdapterVersion | None = None
    near: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    counts_tokens: bool = False
    rank: int = 0
    only: str | None = None

    @property
    def reference(self) -> str | None:
        return None if self.version is None else self.version.reference


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the ingress needs to know about an engine.

    They are all alike, but for the largest rank that each serves. `fleet_rank`: the largest that
    any of the fleet serves; None: this one's.
    """

    model: str
    served_names: tuple[str, ...]
    served_modules: SupportedModules | None
    max_rank: int
    allowed_origins: tuple[str, ...]
    revision: str | None = None
    fleet_rank: int | None = None


def max_ranks(facts: Mapping[str, EngineFacts]) -> Mapping[str, int]:
    """The largest rank that each replica serves."""
    return {name: each.max_rank for name, each in facts.items()}


@dataclass(frozen=True, slots=True)
class ReplicaResult(Generic[Value]):
    """What one replica returned: a value, or its failure."""

    replica: str
    value: Value | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ReplicaResults(Generic[Value]):
    """Results by replica name. A replica that died during the call is in neither mapping.

    `unanswered`: how many of those that were asked gave no answer in time, and may live.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    unanswered: int = 0

    @classmethod
    def collect(
        cls, results: Iterable[ReplicaResult[Value]], unanswered: int = 0
    ) -> "ReplicaResults[Value]":
        values: dict[str, Any] = {}
        failures: dict[str, Failure] = {}
        for each in results:
            if each.failure is None:
                values[each.replica] = each.value
            else:
                failures[each.replica] = each.failure
        return cls(values, failures, unanswered)

    def check(self) -> None:
        """Raises the failure of one replica, if any failed."""
        for failure in self.failures.values():
            raise failure

    def all(self) -> Mapping[str, Value]:
        """The values of all that answer. Raises the failure of one of them, if any failed."""
        self.check()
        return self.values

    def all_that_live(self) -> Mapping[str, Value]:
        """The values of all, where what one doesn't tell is not known. Raises EngineUnavailable
        too.
        """
        if self.unanswered:
            raise EngineUnavailable("a replica does not answer")
        return self.all()


@dataclass(frozen=True, slots=True)
class WantedPin:
    version: AdapterVersion
    tier: Tier


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one replica, and its decisions since the last report."""

    snapshot: CacheSnapshot
    decisions: tuple[LoggedEvent, ...]
    newest_id: int


@dataclass(frozen=True, slots=True)
class ReplicaResidency:
    """The adapters that a replica holds, for routing. `engine_up` False: it can't serve now.

    `max_rank`: the largest that its slots have room for.
    """

    name: str
    slots: frozenset[VersionId]
    host: frozenset[VersionId]
    engine_up: bool
    max_rank: int

    def nearness(self, version: VersionId) -> Nearness:
        if version in self.slots:
            return Nearness.SLOT
        return Nearness.HOST if version in self.host else Nearness.DISK
