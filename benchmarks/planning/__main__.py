"""Planning benchmark: processor time of one request's events, by host places and waiting adapters.

One event group is what a request costs the policy while others wait: it arrives, the release of
another one gives a slot away, and the plans that follow. Loads and moves succeed immediately. Two
loads begin together, for every other request: the mean is what a request costs, and the median that
of either kind.

    python -m benchmarks.planning
    python -m benchmarks.planning --policies lru adaptive lfu --places 1024 --waiting 250
"""

import argparse
import itertools
import os
import platform
import statistics
import time

from engine.policy.decisions import Activate, Commit, Grant, StartLoad
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.policy import CachePolicy
from engine.types import EvictionPolicy, VersionId


class Herd:
    """Every slot is leased, and a constant number of distinct adapters wait."""

    def __init__(
        self, *, slots: int, host_places: int, waiting: int, policy: EvictionPolicy
    ) -> None:
        orders = create_orders(policy)
        self._policy = CachePolicy(
            slots=slots,
            host_capacity=host_places,
            eviction_order=orders.host,
            slot_order=orders.slots,
        )
        self._tickets = itertools.count(1)
        self._leased: list[VersionId] = []
        for _ in range(host_places + slots):  # fills the host tier
            self._arrive()
            self._settle()
            if len(self._leased) == slots:
                self._release()
        for _ in range(slots - len(self._leased) + waiting):
            self._arrive()
            self._settle()
        assert len(self._leased) == slots
        assert len(self._policy.wait_queue) == waiting

    def serve_one(self) -> float:
        """Arrive + grant + release. Returns its processor seconds."""
        began = time.process_time()
        self._arrive()
        self._settle()
        self._release()
        self._settle()
        return time.process_time() - began

    def _arrive(self) -> None:
        ticket = next(self._tickets)
        self._policy.arrive(ticket, VersionId(ticket))

    def _release(self) -> None:
        self._policy.release(self._leased.pop(0))

    def _settle(self) -> None:
        while decisions := self._policy.advance():
            for decision in decisions:
                match decision:
                    case StartLoad(version):
                        self._policy.on_loaded(version)
                    case Commit(version) | Activate(version):
                        self._policy.on_moved(version)
                    case Grant(version=version):
                        self._leased.append(version)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--places", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument("--waiting", type=int, nargs="+", default=[16, 250, 1000])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--policies", nargs="+", type=EvictionPolicy, default=[*EvictionPolicy])
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; {arguments.slots} slots")
    print("| policy | host places | waiting | mean µs | median µs | 99 % µs | × first mean |")
    print("|---|---|---|---|---|---|---|")
    first = 0.0
    cases = itertools.product(arguments.places, arguments.waiting, arguments.policies)
    for places, waiting, policy in cases:
        slots = min(arguments.slots, places)
        herd = Herd(slots=slots, host_places=places, waiting=waiting, policy=policy)
        seconds = sorted(herd.serve_one() for _ in range(arguments.requests))
        mean, median = statistics.mean(seconds) * 1e6, statistics.median(seconds) * 1e6
        late = seconds[int(0.99 * len(seconds))] * 1e6
        first = first or mean
        figures = f"{mean:.0f} | {median:.0f} | {late:.0f} | {mean / first:.2f}"
        print(f"| {policy} | {places} | {waiting} | {figures} |")


if __name__ == "__main__":
    main()
