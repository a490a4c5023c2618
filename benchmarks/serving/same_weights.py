"""Same weights on both sides: the likeliest next tokens after some prompts, adapter by adapter.

Generated text says less: the weights are random, so that the two likeliest tokens are often no
further apart than the rounding of two engines whose kernels were tuned apart.
"""

import itertools
from collections.abc import Sequence

from benchmarks.common.client import LIKELIEST, Client

ADAPTERS = 12
LEAST_ALIKE = 0.6
"""Of the likeliest tokens: by chance, two adapters have few in common."""

_PROMPTS = [[10 + (seed * 31 + n * 7) % 240 for n in range(64)] for seed in range(4)]
_Likeliest = list[set[str]]


async def check_same_weights(stock: Client, ours: Client, adapters: Sequence[str]) -> None:
    """Raises RuntimeError if an adapter's answers are not stock's, or are another adapter's too."""
    right = {name: await _likeliest(stock, name) for name in adapters[:ADAPTERS]}
    found = {name: await _likeliest(ours, name) for name in right}
    same = {name: _share(found[name], right[name]) for name in right}
    others = max(_share(right[one], right[two]) for one, two in itertools.combinations(right, 2))
    print(
        f"# same weights: {min(same.values()):.0%} of the likeliest tokens or more are stock's; "
        f"two adapters share {others:.0%} or fewer",
        flush=True,
    )
    wrong = {name: share for name, share in same.items() if share < LEAST_ALIKE}
    if wrong or others >= LEAST_ALIKE:
        raise RuntimeError(f"these answer differently: {wrong}; two adapters share {others:.0%}")


async def _likeliest(asking: Client, name: str) -> _Likeliest:
    return [await asking.likeliest(name, prompt) for prompt in _PROMPTS]


def _share(one: _Likeliest, other: _Likeliest) -> float:
    alike = sum(len(a & b) for a, b in zip(one, other, strict=True))
    return alike / (LIKELIEST * len(_PROMPTS))
