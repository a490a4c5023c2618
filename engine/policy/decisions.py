"""Decisions of the policy. The executor carries them out and reports back.

No code changes one. They are not frozen: it takes two to three times as long to create a frozen
one, and a request that waits causes six.
"""

from dataclasses import dataclass

from engine.types import CacheOutcome, EvictionReason, VersionId

Ticket = int
"""Identifies one waiting request."""


@dataclass(slots=True)
class StartLoad:
    """Read, convert and pack beside the engine loop. Report `on_loaded` or `on_failed`."""

    version: VersionId


@dataclass(slots=True)
class Commit:
    """Enter the host tier with what was loaded. Report `on_moved` or `on_failed`."""

    version: VersionId


@dataclass(slots=True)
class Activate:
    """Copy from the host tier into a free slot. Report `on_moved` or `on_failed`."""

    version: VersionId


@dataclass(slots=True)
class Deactivate:
    """Leave the slot, stay in host memory. Counts as done once decided.

    `room_for`: the adapter that needs its place, if it is a particular one.
    """

    version: VersionId
    reason: EvictionReason
    room_for: VersionId | None = None


@dataclass(slots=True)
class Evict:
    """Leave the host tier, and with it the slot if there is one. Counts as done once decided.

    `room_for`: the adapter that needs its place, if it is a particular one.
    """

    version: VersionId
    reason: EvictionReason
    left_slot: bool
    room_for: VersionId | None = None


@dataclass(slots=True)
class Grant:
    """The adapter is in a slot and leased to this request."""

    ticket: Ticket
    version: VersionId
    outcome: CacheOutcome


Move = Commit | Activate | Deactivate | Evict
"""What changes the engine's tiers; carried out in the order decided, between two steps."""

Decision = StartLoad | Move | Grant


@dataclass(frozen=True, slots=True)
class Residency:
    """Both tiers, each in the eviction order: the next victim first."""

    gpu: tuple[VersionId, ...]
    host: tuple[VersionId, ...]
