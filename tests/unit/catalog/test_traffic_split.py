"""Weighted stickiness: shares by weight, the same user the same version, few moves on a change."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.catalog.traffic_split import main_of, pick

USERS = [f"user-{n}@example.org" for n in range(20_000)]

Weights = st.dictionaries(st.integers(1, 10**6), st.integers(1, 10**6), min_size=1, max_size=16)


def picks(weights: dict[int, int], salt: str = "bot@prod") -> list[int]:
    return [pick(weights, salt=salt, user=user) for user in USERS]


def deviations(found: int, share: float) -> float:
    """How many standard deviations a count is from a binomial's expectation."""
    expected = len(USERS) * share
    return abs(found - expected) / math.sqrt(expected * (1 - share))


@pytest.mark.parametrize(
    "weights", [{1: 99, 2: 1}, {1: 9, 2: 1}, {7: 1, 8: 1}, {1: 50, 2: 30, 3: 20}, {3: 10**6, 4: 1}]
)
def test_shares_are_right_within_statistics(weights: dict[int, int]) -> None:
    counted = Counter(picks(weights))
    total = sum(weights.values())
    for version, weight in weights.items():
        assert deviations(counted[version], weight / total) < 4.5


@given(Weights, st.text(), st.text())
def test_one_user_always_gets_the_same_version(
    weights: dict[int, int], salt: str, user: str
) -> None:
    first = pick(weights, salt=salt, user=user)
    reordered = dict(sorted(weights.items(), reverse=True))
    assert first in weights
    assert pick(reordered, salt=salt, user=user) == first


@given(Weights, st.text(), st.integers(2, 10))
def test_only_the_ratio_of_weights_counts(weights: dict[int, int], user: str, factor: int) -> None:
    larger = {version: weight * factor for version, weight in weights.items()}
    assert pick(larger, salt="", user=user) == pick(weights, salt="", user=user)


@pytest.mark.parametrize(
    ("before", "after", "moved_share"),
    [
        ({1: 90, 2: 10}, {1: 80, 2: 20}, 0.10),
        ({1: 95, 2: 5}, {1: 100}, 0.05),
        ({1: 60, 2: 30}, {1: 60, 2: 30, 3: 10}, 0.10),
        ({1: 1, 2: 1, 3: 2}, {1: 1, 3: 2}, 0.25),
    ],
)
def test_a_change_of_one_weight_moves_no_more_users_than_it_must(
    before: dict[int, int], after: dict[int, int], moved_share: float
) -> None:
    pairs = list(zip(picks(before), picks(after), strict=True))
    moved = [(old, new) for old, new in pairs if old != new]
    assert deviations(len(moved), moved_share) < 4.5
    share = {v: w / sum(before.values()) for v, w in before.items()}
    gains = {v for v, w in after.items() if w / sum(after.values()) > share.get(v, 0)}
    assert {new for _, new in moved} <= gains, "users only go to a version whose share grew"


def test_a_change_of_several_weights_moves_few_users_more() -> None:
    before, after = picks({1: 60, 2: 40}), picks({1: 60, 2: 30, 3: 10})
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert 0.10 < moved / len(USERS) < 0.20, "0.10 is the least that could be"


def test_another_alias_has_other_users_in_its_canary() -> None:
    weights = {1: 90, 2: 10}
    one, other = picks(weights, "bot@prod"), picks(weights, "bot@beta")
    both = sum(a == b == 2 for a, b in zip(one, other, strict=True))
    assert deviations(both, 0.01) < 4.5, "as independent as two dice"


def test_the_main_version_is_the_heaviest_and_then_the_oldest() -> None:
    assert main_of({1: 1, 2: 5, 3: 5}) == 2
    assert main_of({4: 1}) == 4
