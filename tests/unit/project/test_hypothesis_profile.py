"""Hypothesis profile: loaded before the tests, which set no more than they differ in."""

from hypothesis import HealthCheck, settings


def test_no_example_fails_a_test_by_its_time() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
