"""How long a waiter's patience is, so that its turn comes in time."""

import pytest

from engine.policy.fairness import Turns


def turns(*lease_seconds: float) -> Turns:
    made = Turns(2.0)
    for seconds in lease_seconds:
        made.ended_after(seconds)
    return made


def test_as_long_as_requests_take_it_is_shorter() -> None:
    looks = 2 * turns().look_seconds
    assert turns().patience_seconds() == pytest.approx(2.0 - looks)
    assert turns(*[0.5] * 20).patience_seconds() == pytest.approx(1.5 - looks)


def test_a_few_long_ones_do_not_make_everybody_impatient() -> None:
    assert turns(*[0.1] * 60, 30.0, 30.0).patience_seconds() > 1.5


def test_it_is_never_gone() -> None:
    assert turns(*[30.0] * 20).patience_seconds() == 0.5


def test_old_requests_are_forgotten() -> None:
    made = turns(*[30.0] * 64)
    for _ in range(64):
        made.ended_after(0.1)
    assert made.patience_seconds() > 1.5
