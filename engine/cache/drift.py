"""Drift: versions that the engine holds in other places than the policy believes."""

from collections.abc import Collection, Set

from engine.policy.decisions import Decision, Evict, Residency
from engine.policy.policy import CachePolicy
from engine.ports import EngineState
from engine.types import EvictionReason, VersionId


def find_drift(
    believed: Residency, state: EngineState, moving: Collection[VersionId]
) -> set[VersionId]:
    """Which versions drifted. One in `moving` may rightly be in another place by now."""
    differing = set(believed.gpu) ^ set(state.gpu) | set(believed.host) ^ set(state.host)
    return (differing | set(state.partial)).difference(moving)


def repair_drift(policy: CachePolicy, state: EngineState, drift: Set[VersionId]) -> list[Decision]:
    """Adopt what the engine holds of `drift`. Returns the evictions of what must not be there.

    What only a part of the ranks holds is evicted from all; those without it refuse, and are right.
    """
    now = policy.residency()
    decisions = policy.correct(
        gpu=[v for v in now.gpu if v not in drift] + [v for v in state.gpu if v in drift],
        host=[v for v in now.host if v not in drift] + [v for v in state.host if v in drift],
    )
    return [
        *decisions,
        *(
            Evict(version, EvictionReason.DRIFT, left_slot=False)
            for version in state.partial
            if version in drift and policy.is_on_disk_only(version)
        ),
    ]
