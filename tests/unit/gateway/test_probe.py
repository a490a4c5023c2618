"""Probe verdicts, from three lists of log probabilities."""

import math

import pytest

from engine.operations.probe import ProbeFailure, judge

BASE = [-1.0, -2.0, -3.0]


@pytest.mark.parametrize(
    ("again", "own", "failure"),
    [
        (BASE, [-1.0, -2.1, -3.0], None),
        (BASE, [-1.0, -2.0001, -3.0], None),
        (BASE, BASE, ProbeFailure.NO_DIFFERENCE),
        (BASE, [-1.0, -2.0, -3.0 + 1e-9], ProbeFailure.NO_DIFFERENCE),
        ([-1.0, -2.01, -3.0], [-1.0, -2.0, -3.015], ProbeFailure.NO_DIFFERENCE),
        ([-1.0, -2.01, -3.0], [-1.0, -2.0, -3.03], None),
        (BASE, [-1.0, math.nan, -3.0], ProbeFailure.NOT_FINITE),
        (BASE, [math.nan, -9.0, -3.0], ProbeFailure.NOT_FINITE),
        (BASE, [-1.0, -math.inf, -3.0], ProbeFailure.NOT_FINITE),
    ],
    ids=str,
)
def test_a_version_passes_if_it_differs_by_more_than_noise(
    again: list[float], own: list[float], failure: ProbeFailure | None
) -> None:
    result = judge("a:1", BASE, again, own)
    assert result.failure == failure
    assert result.reference == "a:1"
    assert (result.difference is None) == (failure is ProbeFailure.NOT_FINITE)
