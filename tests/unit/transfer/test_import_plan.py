"""Import plan: what an archive would change here, decided without any I/O."""

from datetime import UTC, datetime

import pytest

from registry.models import VersionState
from registry.transfer.format import AdapterManifest, VersionManifest
from registry.transfer.plan import AdapterPlan

AT = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int, state: VersionState) -> VersionManifest:
    return VersionManifest(
        number=number,
        digest=f"{number:064x}",
        state=state,
        source="upload",
        created_at=AT,
        created_by="someone",
    )


@pytest.mark.parametrize(
    ("states", "default"),
    [
        ((VersionState.RETIRED, VersionState.READY, VersionState.READY), 2),
        ((VersionState.QUARANTINED, VersionState.DEPRECATED), 2),
        ((VersionState.RETIRED,), None),
    ],
)
def test_the_default_of_a_new_adapter_without_aliases_is_its_first_version_that_can_be_served(
    states: tuple[VersionState, ...], default: int | None
) -> None:
    added = {number: version(number, state) for number, state in enumerate(states, start=1)}
    manifest = AdapterManifest(name="solo", versions=tuple(added.values()), created_at=AT)
    assert AdapterPlan(manifest, None, added).default == default
