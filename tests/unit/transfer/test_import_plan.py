"""Import plan: what an archive would change here, decided without any I/O."""

from datetime import UTC, datetime, timedelta

import pytest

from registry.models import VersionState
from registry.transfer.format import (
    AdapterManifest,
    AliasManifest,
    AliasStateManifest,
    VersionManifest,
)
from registry.transfer.plan import AdapterPlan, plan_adapter
from registry.transfer.repository import LocalAdapter

AT = datetime(2026, 1, 1, tzinfo=UTC)


def version(
    number: int | None,
    state: VersionState = VersionState.READY,
    *,
    files: int | None = None,
    further: tuple[int, ...] = (),
) -> VersionManifest:
    """`files`: whose digest it has, if not those of its number."""
    return VersionManifest(
        number=number,
        further_numbers=further,
        digest=f"{files or number:064x}",
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


NUMBERLESS = (version(None, files=101), version(7, further=(9,)), version(None, files=102))


@pytest.mark.parametrize(
    ("local", "numbers"),
    [
        (None, [7, 10, 11]),
        (LocalAdapter(1, versions={3: (30, "3" * 64)}), [7, 10, 11]),
        (LocalAdapter(1, versions={20: (30, "3" * 64)}), [7, 21, 22]),
        (LocalAdapter(1, versions={3: (30, "3" * 64)}, further={25: 3}), [7, 26, 27]),
    ],
)
def test_each_version_without_a_number_gets_one_that_no_other_has(
    local: LocalAdapter | None, numbers: list[int]
) -> None:
    manifest = AdapterManifest(name="bot", versions=NUMBERLESS, created_at=AT)
    plan = plan_adapter(manifest, local, replace_aliases=False, skipped=())
    assert sorted(plan.added) == numbers
    assert [plan.added[number].digest for number in numbers[1:]] == [
        NUMBERLESS[0].digest,
        NUMBERLESS[2].digest,
    ]
    assert (plan.further, plan.conflicts) == ({9: 7}, [])


def test_the_weights_of_what_is_one_version_here_are_added() -> None:
    """There the same content was registered twice, and an alias was split between the two."""
    content = "c" * 64
    local = LocalAdapter(
        1, versions={1: (30, f"{1:064x}")}, numbers_of={content: {1}}, further={2: 1}
    )
    twice = [version(n).model_copy(update={"content_digest": content}) for n in (1, 2)]
    split = AliasStateManifest(
        revision=1, weights={1: 3, 2: 2, 3: 4}, valid_from=AT, actor="someone"
    )
    manifest = AdapterManifest(
        name="bot",
        versions=(*twice, version(3)),
        aliases=(AliasManifest(name="prod", states=(split,)),),
        created_at=AT,
    )
    plan = plan_adapter(manifest, local, replace_aliases=False, skipped=())
    (copied,) = plan.copied
    assert dict(copied.states[0].weights) == {1: 5, 3: 4}


def test_what_was_registered_twice_there_stays_two_versions() -> None:
    """Of which one is here: to find the other in it would refuse the import as a conflict."""
    content = "c" * 64
    local = LocalAdapter(1, versions={1: (30, f"{1:064x}")}, numbers_of={content: {1}})
    twice = tuple(version(n).model_copy(update={"content_digest": content}) for n in (1, 2))
    manifest = AdapterManifest(name="bot", versions=twice, created_at=AT)
    plan = plan_adapter(manifest, local, replace_aliases=False, skipped=())
    assert (plan.unchanged, list(plan.added), plan.conflicts) == ([1], [2], [])


def test_an_alias_on_a_version_that_is_left_out_is_left_out() -> None:
    """Its past alone would be a deleted alias, which a later import keeps as it is."""
    later = AT + timedelta(days=1)
    past = AliasStateManifest(
        revision=1, weights={1: 1}, valid_from=AT, valid_to=later, actor="someone"
    )
    current = AliasStateManifest(revision=2, weights={2: 1}, valid_from=later, actor="someone")
    manifest = AdapterManifest(
        name="bot",
        versions=(version(1), version(2)),
        aliases=(AliasManifest(name="prod", states=(past, current)),),
        created_at=AT,
    )
    skipped = [version(2).digest]
    plan = plan_adapter(manifest, None, replace_aliases=False, skipped=skipped)
    assert (list(plan.added), plan.copied, plan.kept) == ([1], [], ["prod"])
