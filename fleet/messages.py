"""What goes between the entrance and its replicas. All of it can be pickled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from starlette.types import Message

from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineError
from engine.telemetry.decision_log import LoggedEvent
from engine.types import AdapterVersion, Tier, VersionId
from fleet.placement import Nearness
from registry.errors import RegistryError
from registry.inspection.supported_modules import ServedModules

Value = TypeVar("Value")

Messages = Sequence[Message]
"""Of an ASGI response, in order."""

Failure = EngineError | RegistryError


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """One HTTP request, whole. `version`: what its model was resolved to, if it was.

    `near`: replicas that had it in memory a moment ago. `avoid`: those that have failed already.
    """

    scope: Mapping[str, Any]
    body: bytes
    version: AdapterVersion | None = None
    near: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()

    @property
    def reference(self) -> str | None:
        return None if self.version is None else self.version.reference


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the entrance has to know of the engines; they are all alike."""

    model: str
    served_names: tuple[str, ...]
    served_modules: ServedModules | None
    max_rank: int
    allowed_origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered(Generic[Value]):
    """By one replica: a value, or a failure if that is there."""

    replica: str
    value: Value | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Answers(Generic[Value]):
    """By the name of the replica. Who has died meanwhile is in neither."""

    values: Mapping[str, Value] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Iterable[Answered[Value]]) -> "Answers[Value]":
        """Values and failures apart."""
        values: dict[str, Any] = {}
        failures: dict[str, Failure] = {}
        for each in given:
            if each.failure is None:
                values[each.replica] = each.value
            else:
                failures[each.replica] = each.failure
        return cls(values, failures)

    def check(self) -> None:
        """Raises what one of them has raised, if any has."""
        for failure in self.failures.values():
            raise failure

    def all(self) -> Mapping[str, Value]:
        """Raises what one of them has raised, if any has."""
        self.check()
        return self.values


@dataclass(frozen=True, slots=True)
class WantedPin:
    version: AdapterVersion
    tier: Tier


@dataclass(frozen=True, slots=True)
class Report:
    """One replica now, and what happened on it since the last report."""

    snapshot: CacheSnapshot
    decisions: tuple[LoggedEvent, ...]
    newest_id: int


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Who is where on a replica, for routing. `up` False: nobody can be served there now."""

    name: str
    slots: frozenset[VersionId]
    host: frozenset[VersionId]
    up: bool

    def nearness(self, version: VersionId) -> Nearness:
        """Where it has this version."""
        if version in self.slots:
            return Nearness.SLOT
        return Nearness.HOST if version in self.host else Nearness.DISK
