"""Wait estimates: the patience before a drain, and `Retry-After`."""

import pytest

from engine.cache.wait_estimates import DrainPatience, RetryAfterEstimate


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# ---- drain patience -------------------------------------------------------------------------


def patience(*lease_seconds: float) -> DrainPatience:
    made = DrainPatience(2.0)
    for seconds in lease_seconds:
        made.record_lease(seconds)
    return made


def test_patience_is_shorter_by_what_requests_usually_take() -> None:
    checks = 2 * patience().check_seconds
    assert patience().patience_seconds() == pytest.approx(2.0 - checks)
    assert patience(*[0.5] * 20).patience_seconds() == pytest.approx(1.5 - checks)


def test_a_few_long_requests_do_not_shorten_it() -> None:
    assert patience(*[0.1] * 60, 30.0, 30.0).patience_seconds() > 1.5


def test_patience_never_falls_below_a_quarter() -> None:
    assert patience(*[30.0] * 20).patience_seconds() == 0.5


def test_old_requests_are_forgotten() -> None:
    made = patience(*[30.0] * 64)
    for _ in range(64):
        made.record_lease(0.1)
    assert made.patience_seconds() > 1.5


# ---- Retry-After ----------------------------------------------------------------------------


def estimate(
    *, grants: int = 0, every: float = 1.0, load: float = 0.0
) -> tuple[RetryAfterEstimate, Clock]:
    clock = Clock()
    made = RetryAfterEstimate(clock, longest_seconds=120)
    for _ in range(grants):
        made.record_grant(load)
        clock.now += every
    return made, clock


def test_a_moving_queue_passes_in_its_length_times_the_seconds_per_grant() -> None:
    made, _ = estimate(grants=10, every=2.0)
    assert made.retry_after_seconds(5) == 10
    assert made.retry_after_seconds(20) == 40


def test_a_short_queue_still_takes_a_load_and_at_least_a_second() -> None:
    slow, _ = estimate(grants=10, every=0.01, load=7.2)
    assert slow.retry_after_seconds(1) == 8
    fast, _ = estimate(grants=10, every=0.01)
    assert fast.retry_after_seconds(1) == 1


def test_retry_after_is_never_longer_than_a_request_may_wait() -> None:
    made, _ = estimate(grants=3, every=10.0)
    assert made.retry_after_seconds(1000) == 120


def test_a_queue_without_recent_grants_promises_nothing() -> None:
    unknown, _ = estimate()
    assert unknown.retry_after_seconds(1) == 120
    stale, clock = estimate(grants=5, every=0.1)
    clock.now += 61
    assert stale.retry_after_seconds(1) == 120


def test_the_estimate_grows_while_the_queue_stands_still() -> None:
    made, clock = estimate(grants=10, every=1.0)
    before = made.retry_after_seconds(10)
    clock.now += 30
    assert made.retry_after_seconds(10) > before
