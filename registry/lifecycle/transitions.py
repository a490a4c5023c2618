"""State transitions allowed for a version; the database's triggers enforce the same."""

from registry.errors import TransitionRefused
from registry.models import Version, VersionState, now

TRANSITIONS: dict[VersionState, frozenset[VersionState]] = {
    VersionState.PENDING: frozenset({VersionState.READY, VersionState.REJECTED}),
    VersionState.READY: frozenset(
        {VersionState.DEPRECATED, VersionState.RETIRED, VersionState.QUARANTINED}
    ),
    VersionState.DEPRECATED: frozenset(
        {VersionState.READY, VersionState.RETIRED, VersionState.QUARANTINED}
    ),
    VersionState.RETIRED: frozenset(
        {VersionState.READY, VersionState.QUARANTINED, VersionState.PURGED}
    ),
    VersionState.QUARANTINED: frozenset(
        {VersionState.READY, VersionState.RETIRED, VersionState.PURGED}
    ),
    VersionState.REJECTED: frozenset({VersionState.READY, VersionState.PURGED}),
    VersionState.PURGED: frozenset({VersionState.READY}),  # the same files were registered again
}


def change_state(
    version: Version,
    to: VersionState,
    reference: str,
    *,
    reason: str | None = None,
    code: str | None = None,
) -> None:
    """Set a version's state; the only place that does. Raises TransitionRefused."""
    if to != version.state and to not in TRANSITIONS[VersionState(version.state)]:
        raise TransitionRefused(reference, version.state, to)
    version.state = to
    version.state_reason = reason
    version.state_code = code
    version.state_changed_at = now()
