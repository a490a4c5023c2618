"""Range of a p99: where that of other traffic of the same kind is, from one simulated run."""

import random
from collections.abc import Callable

import pytest

from adaptry.sizing.prediction import Setting, quantile, quantile_range
from benchmarks.sizing.halves import WARM_SECONDS, halves, zipf_ids
from benchmarks.sizing.machines import MACHINES
from engine.simulation.replay import replay
from engine.simulation.shared_engine import Costs

COSTS = Costs(0.0128, 0.0005, 0.0011, 0.0036, 0.0005, prefill_seconds_per_token=0.0004)
SEEDS = range(1, 16)


def first_tokens(setting: Setting, seed: int) -> list[list[float]]:
    """Of two halves."""
    chosen = MACHINES["cpu"]
    ids = zipf_ids(chosen.requests, 40, seed)
    found = []
    for half in halves(ids, chosen.rate, chosen.mean_tokens, seed):
        done = replay(half.arrivals, COSTS, setting.shape(), orders=setting.orders()).requests
        later = [each for each in done if each.arrived_at >= WARM_SECONDS]
        found.append([x.first_token_at - x.arrived_at for x in later if x.first_token_at])
    return found


@pytest.mark.parametrize(("setting", "least"), [(Setting(2, 6), 0.7), (Setting(6, 18), 0.8)])
def test_the_p99_of_all_traffic_is_within_the_range_of_most_runs(
    setting: Setting, least: float
) -> None:
    runs = [run for seed in SEEDS for run in first_tokens(setting, seed)]
    of_all = quantile([each for run in runs for each in run], 0.99)
    ranges = [quantile_range(run, 0.99) for run in runs]
    assert sum(low <= of_all <= high for low, high in ranges) / len(runs) >= least


def independent(chance: random.Random, number: int) -> float:
    return chance.random()


def together(chance: random.Random, number: int) -> float:
    """A fiftieth of the time all take long."""
    return chance.random() + 10 * (number // 40 % 50 == 7)


@pytest.mark.parametrize("draw", [independent, together])
def test_a_range_has_its_quantile_in_it_and_is_wider_where_long_waits_come_together(
    draw: Callable[[random.Random, int], float],
) -> None:
    chance = random.Random(2)
    values = [draw(chance, number) for number in range(2000)]
    low, high = quantile_range(values, 0.99)
    assert low <= quantile(values, 0.99) <= high
    assert (high - low > 0.9) is (draw is together)


def test_few_values_have_a_range_too() -> None:
    assert quantile_range([], 0.99) == (0.0, 0.0)
    assert quantile_range([0.3], 0.99) == (0.3, 0.3)
    assert quantile_range([0.1, 0.2, 0.3], 0.99)[1] == 0.3
