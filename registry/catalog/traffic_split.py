"""Traffic split of a weighted alias: by weight, and stable for each user.

Weighted rendezvous hashing (the logarithmic method of Schindelhauer and Schomaker, "Weighted
Distributed Hash Tables", SPAA 2005): each version is hashed with the user's name, and the
lowest cost wins. A version's cost depends on its own weight only, so that changing a
weight moves only the users that this version gains or loses.
"""

import math
from collections.abc import Mapping
from hashlib import blake2b

_DRAWS = 2**64


def pick(weights: Mapping[int, int], *, salt: str, user: str) -> int:
    """The key of `weights` for this user. Weights are positive; their sum does not matter.

    `salt`: otherwise the same users would get every canary.
    """
    return min(weights, key=lambda candidate: _cost(candidate, weights[candidate], salt, user))


def main_of(weights: Mapping[int, int]) -> int:
    """The key with the largest weight; of equals, the smallest key."""
    return max(weights, key=lambda candidate: (weights[candidate], -candidate))


def _cost(candidate: int, weight: int, salt: str, user: str) -> float:
    """Exponentially distributed with rate `weight`, so that the minimum is chosen by weight."""
    seed = f"{salt}\0{candidate}\0{user}".encode(errors="surrogatepass")
    draw = int.from_bytes(blake2b(seed, digest_size=8).digest(), "big")
    return -math.log((draw + 0.5) / _DRAWS) / weight
