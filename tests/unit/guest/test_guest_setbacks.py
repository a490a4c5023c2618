"""What a guest can't do: each reason once in its log, and ever longer pauses."""

import contextlib
import itertools

import pytest
from prometheus_client import CollectorRegistry

from guest.failures import CantServe, Cause, Failure, cant_serve
from guest.metrics import GuestMetrics
from guest.setbacks import LONGEST_PAUSE_SECONDS, Setbacks

AWAY = Failure(Cause.REGISTRY, "the registry does not answer", "no answer from http://registry")
RANK = cant_serve(Cause.RANK, "bot:2 has rank 64, over --max-lora-rank 16").failure


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def collectors() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def setbacks(collectors: CollectorRegistry, clock: Clock) -> Setbacks:
    return Setbacks(GuestMetrics(collectors), 1.0, clock)


def behind(collectors: CollectorRegistry) -> dict[str, float]:
    """By cause, those above 0."""
    found = {
        cause: collectors.get_sample_value("adaptry_guest_behind", {"cause": cause})
        for cause in Cause
    }
    return {cause: value for cause, value in found.items() if value}


def test_an_outage_is_one_line_for_all_names_and_one_at_its_end(
    setbacks: Setbacks, collectors: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(3):
        for name in ("bot", "other", "bot@prod"):
            setbacks.fall_behind(name, AWAY)
    assert behind(collectors) == {"registry": 3}
    for name in ("bot", "other", "bot@prod", "bot"):
        setbacks.settle(name)
    assert behind(collectors) == {}
    assert [record.getMessage() for record in caplog.records] == [
        "bot: no answer from http://registry (registry)",
        "every name is up to date again",
    ]


def test_a_new_reason_is_said(setbacks: Setbacks, caplog: pytest.LogCaptureFixture) -> None:
    for failure in (AWAY, AWAY, RANK, RANK):
        setbacks.fall_behind("bot", failure)
    assert len(caplog.records) == 2


def test_requests_that_fail_are_counted_each_and_said_once(
    setbacks: Setbacks, collectors: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        setbacks.refuse_request("bot", RANK)
    counted = collectors.get_sample_value("adaptry_guest_refusals_total", {"cause": "rank"})
    assert counted == 5
    assert behind(collectors) == {}, "nothing is served under that name"
    assert len(caplog.records) == 1


def test_the_pauses_of_a_version_grow_to_a_minute(setbacks: Setbacks, clock: Clock) -> None:
    attempts: list[float] = []
    while len(attempts) < 12:
        with contextlib.suppress(CantServe):
            setbacks.check("bot:2")
            attempts.append(clock.now)
            setbacks.refuse("bot:2", RANK)
        clock.now += 1
    pauses = [after - before for before, after in itertools.pairwise(attempts)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[6:]) == {LONGEST_PAUSE_SECONDS}
    with pytest.raises(CantServe, match="has rank 64"):
        setbacks.check("bot:2")
    setbacks.check("bot:3")
    setbacks.accept("bot:2")
    setbacks.check("bot:2")


def test_no_version_is_to_blame_for_the_registry(setbacks: Setbacks) -> None:
    """When it is back, nobody waits for a pause."""
    setbacks.refuse("bot:2", AWAY)
    setbacks.check("bot:2")


def test_what_clients_make_up_is_not_kept_for_ever(setbacks: Setbacks) -> None:
    for n in range(3000):
        setbacks.refuse_request(f"x-{n}", AWAY)
        setbacks.refuse(f"x-{n}:1", RANK)
    assert len(setbacks._said) == len(setbacks._refused) == 1000
