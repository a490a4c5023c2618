"""Same weights on both sides: log probabilities of the likeliest next tokens, by adapter.

Generated text says less: the weights are random, so that the two likeliest tokens are often no
further apart than the rounding of two engines whose kernels were tuned apart.
"""

import itertools
from collections.abc import Sequence
from statistics import mean

from benchmarks.common.client import Client, Likeliest, same_prompt

ADAPTERS = 12
MOST = 0.5
"""Of what two adapters differ by, for the same adapter on both sides."""

_PROMPTS = [same_prompt(64, seed) for seed in range(4)]


async def check_same_weights(stock: Client, ours: Client, adapters: Sequence[str]) -> None:
    """Raises RuntimeError if an adapter's answers are further from stock's than another's are, or
    if there is no other one.
    """
    if len(adapters) < 2:
        raise RuntimeError("it takes two adapters to say how far apart answers may be")
    right = {name: await _answers(stock, name) for name in adapters[:ADAPTERS]}
    found = {name: await _answers(ours, name) for name in right}
    off = {name: _distance(found[name], right[name]) for name in right}
    pairs = itertools.combinations(right, 2)
    apart = min(_distance(right[one], right[other]) for one, other in pairs)
    print(
        f"# same weights: log probabilities are off stock's by {max(off.values()):.2g} or less; "
        f"two adapters differ by {apart:.2g} or more",
        flush=True,
    )
    wrong = [name for name, distance in off.items() if distance > MOST * apart]
    if wrong:
        raise RuntimeError(f"these answer differently: {wrong}: {off}")


async def _answers(asking: Client, name: str) -> list[Likeliest]:
    return [await asking.likeliest(name, prompt) for prompt in _PROMPTS]


def _distance(one: list[Likeliest], other: list[Likeliest]) -> float:
    return mean(_apart(a, b) for a, b in zip(one, other, strict=True))


def _apart(one: Likeliest, other: Likeliest) -> float:
    """A token that only one of them names is taken for the other's least likely one."""
    least_one, least_other = min(one.values()), min(other.values())
    tokens = one.keys() | other.keys()
    return mean(abs(one.get(t, least_one) - other.get(t, least_other)) for t in tokens)
