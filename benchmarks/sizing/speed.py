"""Speed of the simulation: processor seconds for a million requests and one setting, by policy.

    python -m benchmarks.sizing.speed

Simulates fewer, several times, and takes the fastest: other programs only make it slower.
"""

import argparse
import time

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.prediction import Setting, predict
from adaptry.sizing.workload import Workload, workload_of_rates
from benchmarks.common.tables import machine, print_table
from engine.types import EvictionPolicy

RATE = 20.0
POLICIES = (EvictionPolicy.LRU, EvictionPolicy.ADAPTIVE)
ROUNDS = 5


def workload(requests: int) -> Workload:
    return workload_of_rates(
        adapters=200, zipf=1.0, rate=RATE, seconds=requests / RATE, tokens=64, prompt_tokens=64
    )


def seconds_per_million(work: Workload, policy: EvictionPolicy) -> float:
    setting = Setting(slots=16, host_places=64, eviction_policy=policy)
    began = time.process_time()
    predict(work, KnownCosts().costs, setting, first_token_seconds=0.5)
    return (time.process_time() - began) / len(work.arrivals) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=40_000)
    work = workload(parser.parse_args().requests)
    rows: list[dict[str, object]] = []
    for policy in POLICIES:
        fastest = min(seconds_per_million(work, policy) for _ in range(ROUNDS))
        rows.append({"policy": policy.value, "seconds for a million requests": f"{fastest:.0f}"})
    print(f"{machine()}\n")
    print_table(rows)


if __name__ == "__main__":
    main()
