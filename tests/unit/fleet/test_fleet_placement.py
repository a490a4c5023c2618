"""Where a request goes: near its adapter, and never to somebody who has much more to do."""

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
def test_nobody_is_asked_who_has_more_to_do_than_the_bound(
    states: list[tuple[int, Nearness]], adapter: str
) -> None:
    names = [str(n) for n in range(len(states))]
    loads, near = [load for load, _ in states], [place for _, place in states]
    index = choose(adapter, names, loads, near, BOUND)
    average = sum(loads) / len(loads)
    assert loads[index] <= max(min(loads) + 4, 1.25 * average + 1)
    able = [n for n, load in enumerate(loads) if load <= BOUND.most(loads)]
    assert near[index] == min(near[n] for n in able), "nobody who is able is nearer"


def test_a_slot_is_nearer_than_host_memory_and_that_than_the_disk() -> None:
    assert where("a", [0, 0, 0], [DISK, SLOT, HOST]) == 1
    assert where("a", [0, 4, 0], [DISK, SLOT, HOST]) == 1
    assert where("a", [0, 6, 0], [DISK, SLOT, HOST]) == 2
    assert where("a", [0, 6, 6], [DISK, SLOT, HOST]) == 0


def test_of_those_that_have_it_the_least_busy() -> None:
    assert where("a", [3, 1, 2, 0], [SLOT, SLOT, SLOT, DISK]) == 1


def test_a_busy_fleet_allows_what_its_average_does() -> None:
    assert where("a", [40, 50, 50, 54], [DISK, DISK, DISK, SLOT]) == 3
    assert where("a", [40, 40, 40, 54], [DISK, DISK, DISK, SLOT]) == 3
    assert where("a", [40, 40, 40, 60], [DISK, DISK, DISK, SLOT]) != 3


def test_what_is_nowhere_goes_to_the_same_one_and_they_share_it_all_out() -> None:
    nowhere = [DISK] * 5
    first = [where(f"adapter-{n}", [0] * 5, nowhere) for n in range(1000)]
    assert first == [where(f"adapter-{n}", [1, 0, 2, 0, 1], nowhere) for n in range(1000)]
    assert min(Counter(first).values()) > 150


def test_one_replica_less_moves_only_what_it_had() -> None:
    names = [f"adapter-{n}" for n in range(500)]
    before = {name: where(name, [0] * 5, [DISK] * 5) for name in names}
    after = {name: where(name, [0] * 4, [DISK] * 4) for name in names}
    moved = {name for name in names if before[name] != after[name]}
    assert moved == {name for name in names if before[name] == 4}


def test_a_fleet_of_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="no replica"):
        where("a", [], [])
