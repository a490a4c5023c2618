"""Speed of the simulation, as its benchmark measures it: of a workload as long as was asked for."""

from benchmarks.sizing.speed import POLICIES, RATE, seconds_per_million, workload


def test_the_requests_that_are_timed_are_as_many_as_asked_for_and_all_policies_serve_them() -> None:
    work = workload(400)
    assert 300 < len(work.arrivals) < 500
    assert abs(work.seconds - 400 / RATE) < 2
    assert all(seconds_per_million(work, policy) > 0 for policy in POLICIES)
