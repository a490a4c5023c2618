"""Placement: a request goes near its adapter, but never to an overloaded replica."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.placement import Bound, Nearness, choose

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
