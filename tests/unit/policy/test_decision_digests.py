"""Decision digests: what the default and LRU decide over every trace, as it was before.

A change that only makes decisions or their simulation faster leaves them. A change of what is
decided changes them on purpose: the failure shows the new ones, for `decision_digests.json`.
"""

import hashlib
import json
from pathlib import Path

from benchmarks.policies.comparison import BUSY, COSTS, QUIET, SHAPE, arrivals
from benchmarks.policies.traces import GENERATORS, generate
from engine.policy.eviction_orders.choice import create_orders
from engine.simulation.replay import Arrival, replay
from engine.simulation.replica import Shape
from engine.types import EvictionPolicy, VersionId

DIGESTS = Path(__file__).with_name("decision_digests.json")
POLICIES = (EvictionPolicy.ADAPTIVE, EvictionPolicy.LRU)
LARGE = Shape(slots=16, host_capacity=128, host_bytes=900)
"""A tier of which the shadows follow a sample, with a budget of bytes."""


def digest(trace: list[Arrival], policy: EvictionPolicy, shape: Shape) -> str:
    """Of where each request found its adapter and when it got its slot, to a microsecond."""
    per_byte = shape.host_bytes is not None
    sizes = {VersionId(n): 1 + n % 13 for n in range(1, 4000)} if per_byte else None
    orders = create_orders(policy, per_byte=per_byte)
    done = replay(trace, COSTS, shape, orders=orders, sizes=sizes)
    found = [
        (each.outcome, each.refused, None if each.granted_at is None else f"{each.granted_at:.6f}")
        for each in done.requests
    ]
    text = repr((found, done.loads, done.activations))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_decisions_are_those_that_they_were() -> None:
    digests = {}
    for name in GENERATORS:
        used = generate(name, 400, seed=3)
        quiet, busy = arrivals(used, QUIET, 3), arrivals(used, BUSY, 3)
        for policy in POLICIES:
            found = [digest(each, policy, SHAPE) for each in (quiet, busy)]
            digests[f"{name}; {policy.value}"] = " ".join(found)
        digests[f"{name}; large"] = digest(busy, POLICIES[0], LARGE)
    assert digests == json.loads(DIGESTS.read_text()), json.dumps(digests, indent=2)
