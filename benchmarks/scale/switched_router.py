"""Router of a fleet that can be told to place requests at random, to compare our routing with.

It does so while the file exists that `SWITCH_VARIABLE` names. Imports Ray, which reads its
environment then.
"""

import os
import random
from pathlib import Path

from ray.serve.request_router import PendingRequest, RunningReplica

from benchmarks.scale.routers import SWITCH_VARIABLE
from fleet.ray.request_router import AdapterRouter


class SwitchedRouter(AdapterRouter):
    """The fleet's own router, or a random choice among the replicas."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if not Path(os.environ[SWITCH_VARIABLE]).exists():
            return await super().choose_replicas(candidate_replicas, pending_request)
        return [[random.choice(candidate_replicas)], candidate_replicas]
