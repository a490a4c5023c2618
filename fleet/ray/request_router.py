"""Request router for Ray Serve: the replica that holds the adapter, unless it is overloaded.

Source of the extension point: `ray.serve.request_router.RequestRouter` (2.60), `choose_replicas`.
"""

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from engine.types import VersionId
from fleet.messages import ForwardedRequest, ReplicaResidency
from fleet.placement import Bound, Nearness, choose, least_busy

RESIDENCY = "residency"
"""Key of a `fleet.messages.ReplicaResidency` in a replica's routing statistics."""


class AdapterRouter(RequestRouter):
    """Applies `fleet.placement.choose` to Ray Serve's queue lengths and routing statistics."""

    _bound = Bound()

    def initialize_state(self, **kwargs: Any) -> None:
        """Called by Ray Serve with its configured arguments: those of `Bound`."""
        self._bound = Bound(**kwargs)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The best replica first, then all usable ones in case it can't take the request."""
        if pending_request is None or len(candidate_replicas) < 2:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        request = _request_of(pending_request)
        usable = _usable(candidate_replicas, request)
        await self._refresh_loads(usable)
        best = self._best(usable, request)
        return [[best], usable]

    async def _refresh_loads(self, replicas: list[RunningReplica]) -> None:
        """Probe the replicas whose queue length is unknown or stale."""
        known = self.replica_queue_len_cache
        if stale := [each for each in replicas if known.get(each.replica_id) is None]:
            await self._probe_queue_lens(stale, 0)

    def _best(
        self, replicas: list[RunningReplica], request: ForwardedRequest | None
    ) -> RunningReplica:
        loads = [self.replica_queue_len_cache.get(r.replica_id) or 0 for r in replicas]
        limits = [_max_rank(each) for each in replicas]
        if request is None or request.version is None:
            return replicas[least_busy(loads, 0 if request is None else request.rank, limits)]
        names = [each.replica_id.unique_id for each in replicas]
        nearness = [_nearness(each, request.version.id, request.near) for each in replicas]
        chosen = choose(
            request.version.reference,
            names,
            loads,
            nearness,
            self._bound,
            rank=request.version.rank,
            max_ranks=limits,
        )
        return replicas[chosen]


def _request_of(pending: PendingRequest) -> ForwardedRequest | None:
    first: Any = pending.args[0] if pending.args else None
    return first if isinstance(first, ForwardedRequest) else None


def _usable(
    replicas: list[RunningReplica], request: ForwardedRequest | None
) -> list[RunningReplica]:
    """Replicas with an engine that have not failed this request; all, if there are none.

    The only one that can answer it, if it is there: another one says that it is not.
    """
    if request is not None and request.only is not None:
        return [r for r in replicas if r.replica_id.unique_id == request.only] or replicas
    avoid = request.avoid if request is not None else frozenset()
    up = [each for each in replicas if _is_up(each)]
    fresh = [each for each in up if each.replica_id.unique_id not in avoid]
    return fresh or up or replicas


def _is_up(replica: RunningReplica) -> bool:
    where = replica.routing_stats.get(RESIDENCY)
    return where is None or bool(where.engine_up)


def _max_rank(replica: RunningReplica) -> int | None:
    where: ReplicaResidency | None = replica.routing_stats.get(RESIDENCY)
    return None if where is None else where.max_rank


def _nearness(replica: RunningReplica, version: VersionId, near: frozenset[str]) -> Nearness:
    where: ReplicaResidency | None = replica.routing_stats.get(RESIDENCY)
    reported = Nearness.DISK if where is None else where.nearness(version)
    seen = Nearness.HOST if replica.replica_id.unique_id in near else Nearness.DISK
    return min(reported, seen)
