"""What a request that is turned away is told."""

from engine.cache.retry_after import Backlog


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def backlog(*, turns: int = 0, every: float = 1.0, load: float = 0.0) -> tuple[Backlog, Clock]:
    clock = Clock()
    made = Backlog(clock, longest_seconds=120)
    for _ in range(turns):
        made.had_its_turn(load)
        clock.now += every
    return made, clock


def test_a_line_that_moves_passes_in_its_length_times_a_turn() -> None:
    made, _ = backlog(turns=10, every=2.0)
    assert made.retry_after_seconds(5) == 10
    assert made.retry_after_seconds(20) == 40


def test_a_short_line_still_takes_a_load_and_at_least_a_second() -> None:
    slow, _ = backlog(turns=10, every=0.01, load=7.2)
    assert slow.retry_after_seconds(1) == 8
    fast, _ = backlog(turns=10, every=0.01)
    assert fast.retry_after_seconds(1) == 1


def test_nobody_is_sent_away_for_longer_than_a_request_may_wait() -> None:
    made, _ = backlog(turns=3, every=10.0)
    assert made.retry_after_seconds(1000) == 120


def test_a_line_that_has_not_moved_lately_promises_nothing() -> None:
    unknown, _ = backlog()
    assert unknown.retry_after_seconds(1) == 120
    stale, clock = backlog(turns=5, every=0.1)
    clock.now += 61
    assert stale.retry_after_seconds(1) == 120


def test_a_line_that_stands_still_is_seen_to() -> None:
    made, clock = backlog(turns=10, every=1.0)
    before = made.retry_after_seconds(10)
    clock.now += 30
    assert made.retry_after_seconds(10) > before
