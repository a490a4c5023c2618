"""Serving replicas: those whose engine is up, and the largest rank of each.

A stock server that is away, or a replica that starts its engine again, gets no requests: what they
need is put where they go.
"""

import asyncio
from collections.abc import Mapping

from engine.errors import EngineUnavailable
from fleet.messages import max_ranks
from fleet.ports import Replicas
from fleet.proxied_response import MISSING


async def serving_ranks(replicas: Replicas, rank: int = 0) -> Mapping[str, int]:
    """By replica. Raises EngineUnavailable, also if only one that is away serves this rank."""
    facts, serves = await asyncio.gather(replicas.call("facts"), replicas.call("serves"))
    limits = max_ranks(facts.values)
    up = {name: most for name, most in limits.items() if serves.values.get(name)}
    if not up:
        raise EngineUnavailable("no replica has an engine now")
    if max(up.values()) < rank <= max(limits.values()):
        raise EngineUnavailable(MISSING)
    return up
