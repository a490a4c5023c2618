"""Ray Serve's request router for replicas: where the adapter is, unless that has too much to do.

Source of the extension point: `ray.serve.request_router.RequestRouter` (2.60), `choose_replicas`.
"""

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from engine.types import VersionId
from fleet.messages import ForwardedRequest, Whereabouts
from fleet.placement import Bound, Nearness, choose

WHEREABOUTS = "whereabouts"
"""In a replica's routing statistics, a `fleet.messages.Whereabouts`."""


class AdapterRouter(RequestRouter):
    """`fleet.placement.choose` with what Ray Serve knows: running requests and statistics."""

    _bound = Bound()

    def initialize_state(self, **kwargs: Any) -> None:
        """Ray Serve's way to give arguments: those of `Bound`."""
        self._bound = Bound(**kwargs)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The best one first, then all of them for the case that it can't take the request."""
        if pending_request is None or len(candidate_replicas) < 2:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        request = _forwarded(pending_request)
        able = _able(candidate_replicas, request)
        await self._ask_for_loads(able)
        best = self._best(able, request)
        return [[best], able]

    async def _ask_for_loads(self, replicas: list[RunningReplica]) -> None:
        """Of those that nothing was sent to for a while."""
        known = self.replica_queue_len_cache
        if stale := [each for each in replicas if known.get(each.replica_id) is None]:
            await self._probe_queue_lens(stale, 0)

    def _best(
        self, replicas: list[RunningReplica], request: ForwardedRequest | None
    ) -> RunningReplica:
        loads = [self.replica_queue_len_cache.get(r.replica_id) or 0 for r in replicas]
        if request is None or request.version is None:
            return replicas[loads.index(min(loads))]
        names = [each.replica_id.unique_id for each in replicas]
        nearness = [_nearness(each, request.version.id, request.near) for each in replicas]
        chosen = choose(request.version.reference, names, loads, nearness, self._bound)
        return replicas[chosen]


def _forwarded(pending: PendingRequest) -> ForwardedRequest | None:
    first: Any = pending.args[0] if pending.args else None
    return first if isinstance(first, ForwardedRequest) else None


def _able(replicas: list[RunningReplica], request: ForwardedRequest | None) -> list[RunningReplica]:
    """Those with an engine that this request was not refused by; all, if that leaves none."""
    avoid = request.avoid if request is not None else frozenset()
    up = [each for each in replicas if _is_up(each)]
    fresh = [each for each in up if each.replica_id.unique_id not in avoid]
    return fresh or up or replicas


def _is_up(replica: RunningReplica) -> bool:
    where = replica.routing_stats.get(WHEREABOUTS)
    return where is None or bool(where.up)


def _nearness(replica: RunningReplica, version: VersionId, near: frozenset[str]) -> Nearness:
    where: Whereabouts | None = replica.routing_stats.get(WHEREABOUTS)
    reported = Nearness.DISK if where is None else where.nearness(version)
    seen = Nearness.HOST if replica.replica_id.unique_id in near else Nearness.DISK
    return min(reported, seen)
