"""Placement: a request goes near its adapter, but never to an overloaded replica."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.placement import Bound, Nearness, choose, first_for, least_busy, order

SLOT, HOST, DISK = Nearness.SLOT, Nearness.HOST, Nearness.DISK
BOUND = Bound(slack=4, share=1.25)
FLEET = [f"replica-{n}" for n in range(5)]
States = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(Nearness)), min_size=1, max_size=30)


def where(adapter: str, loads: list[int], near: list[Nearness]) -> int:
    return choose(adapter, FLEET[: len(loads)], loads, near, BOUND)


@given(States, st.text(max_size=8))
def test_no_replica_above_the_bound_is_chosen(
    states: list[tuple[int, Nearness]], adapter: str
) -> None:
    names = [str(n) for n in range(len(states))]
    loads, near = [load for load, _ in states], [place for _, place in states]
    index = choose(adapter, names, loads, near, BOUND)
    average = sum(loads) / len(loads)
    assert loads[index] <= max(min(loads) + 4, 1.25 * average + 1)
    usable = [n for n, load in enumerate(loads) if load <= BOUND.most(loads)]
    assert near[index] == min(near[n] for n in usable), "no ususable replica is nearer"


def test_a_slot_is_nearer_than_host_memory_and_host_memory_than_disk() -> None:
    assert where("a", [0, 0, 0], [DISK, SLOT, HOST]) == 1
    assert where("a", [0, 4, 0], [DISK, SLOT, HOST]) == 1
    assert where("a", [0, 6, 0], [DISK, SLOT, HOST]) == 2
    assert where("a", [0, 6, 6], [DISK, SLOT, HOST]) == 0


def test_of_the_holders_the_least_busy_is_chosen() -> None:
    assert where("a", [3, 1, 2, 0], [SLOT, SLOT, SLOT, DISK]) == 1


def test_the_bound_grows_with_the_average_load() -> None:
    assert where("a", [40, 50, 50, 54], [DISK, DISK, DISK, SLOT]) == 3
    assert where("a", [40, 40, 40, 54], [DISK, DISK, DISK, SLOT]) == 3
    assert where("a", [40, 40, 40, 60], [DISK, DISK, DISK, SLOT]) != 3


def test_the_bound_is_rounded_up() -> None:
    assert Bound(slack=0, share=1.25).most([2, 3]) == 4  # 3.125
    assert Bound(slack=0, share=1.25).most([4, 4]) == 5


def test_a_request_without_a_rank_goes_to_the_least_busy_of_all() -> None:
    loads, max_ranks = [3, 2, 1], [8, 16, None]
    assert least_busy(loads, 0, max_ranks) == 2
    assert least_busy(loads, 10, max_ranks) == 1


def test_unheld_adapters_always_go_to_the_same_replica_and_spread_evenly() -> None:
    unheld = [DISK] * 5
    first = [where(f"adapter-{n}", [0] * 5, unheld) for n in range(1000)]
    assert first == [where(f"adapter-{n}", [1, 0, 2, 0, 1], unheld) for n in range(1000)]
    assert min(Counter(first).values()) > 150


def test_removing_a_replica_moves_only_its_adapters() -> None:
    names = [f"adapter-{n}" for n in range(500)]
    before = {name: where(name, [0] * 5, [DISK] * 5) for name in names}
    after = {name: where(name, [0] * 4, [DISK] * 4) for name in names}
    moved = {name for name in names if before[name] != after[name]}
    assert moved == {name for name in names if before[name] == 4}


def test_an_empty_fleet_is_an_error() -> None:
    with pytest.raises(ValueError, match="no replica"):
        where("a", [], [])


# ---- classes of ranks --------------------------------------------------------------------

CLASSES = [8, 8, 64, 64, 64]
LIMITS = dict(zip(FLEET, CLASSES, strict=True))


def of_rank(rank: int, adapter: str, loads: list[int], near: list[Nearness] | None = None) -> int:
    near = near or [DISK] * 5
    return choose(adapter, FLEET, loads, near, BOUND, rank=rank, max_ranks=CLASSES)


@given(
    st.integers(1, 70),
    st.lists(
        st.tuples(
            st.integers(0, 60), st.sampled_from(Nearness), st.sampled_from([None, 8, 16, 64])
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_a_request_goes_only_where_its_rank_fits_within_the_bound_of_those(
    rank: int, states: list[tuple[int, Nearness, int | None]]
) -> None:
    names = [str(n) for n in range(len(states))]
    loads, near, limits = (list(column) for column in zip(*states, strict=True))
    index = choose("a", names, loads, near, BOUND, rank=rank, max_ranks=limits)
    fitting = [n for n, most in enumerate(limits) if most is not None and rank <= most]
    if fitting:
        assert index in fitting
        assert loads[index] <= BOUND.most([loads[n] for n in fitting])
        usable = [n for n in fitting if loads[n] <= BOUND.most([loads[m] for m in fitting])]
        assert near[index] == min(near[n] for n in usable), "residency counts first"
        alike = [n for n in usable if near[n] == near[index]]
        assert limits[index] == min(limits[n] for n in alike), "then the smallest class"
    elif None in limits:
        assert limits[index] is None, "it may fit where that is unknown"


def test_small_ranks_keep_off_the_large_slots_until_the_small_ones_are_overloaded() -> None:
    chosen = {of_rank(8, f"adapter-{n}", [0] * 5) for n in range(100)}
    assert chosen == {0, 1}
    assert {of_rank(8, f"adapter-{n}", [4, 4, 0, 0, 0]) for n in range(100)} == {0, 1}
    assert {of_rank(8, f"adapter-{n}", [9, 9, 0, 0, 0]) for n in range(100)} == {2, 3, 4}


def test_large_ranks_stay_where_they_fit_however_busy_that_is() -> None:
    chosen = {of_rank(16, f"adapter-{n}", [0, 0, 50, 50, 50]) for n in range(100)}
    assert chosen == {2, 3, 4}


def test_what_is_in_a_large_slot_is_not_loaded_again_into_a_small_one() -> None:
    assert of_rank(8, "a", [0] * 5, [DISK, HOST, SLOT, DISK, DISK]) == 2
    assert of_rank(8, "a", [3, 3, 0, 0, 0], [DISK, SLOT, SLOT, DISK, DISK]) == 1, "both: the small"


def test_a_rank_that_fits_nowhere_is_sent_as_if_it_did() -> None:
    """A replica refuses it, and says why."""
    assert of_rank(65, "a", [0] * 5, [DISK, DISK, DISK, DISK, SLOT]) == 4


def test_pins_and_prefetches_follow_the_same_classes() -> None:
    large = set(FLEET[2:])
    assert first_for("a", FLEET, None, rank=16, max_ranks=LIMITS) == large
    assert order("a", FLEET, 8, LIMITS)[:2] == [
        name for name in order("a", FLEET) if name not in large
    ]
    (small,) = first_for("a", FLEET, 1, rank=8, max_ranks=LIMITS)
    assert small == FLEET[of_rank(8, "a", [0] * 5)]
    assert first_for("a", FLEET, None, rank=8, max_ranks=LIMITS) == set(FLEET)
    assert first_for("a", FLEET, None, rank=65, max_ranks=LIMITS) == set(FLEET)
