"""`client.cache`: which adapters are in GPU slots and host memory, and why."""

from typing import TypeVar

from adaptry.client.models import (
    CacheRead,
    DecisionList,
    DecisionRead,
    EngineTruthRead,
    EvictRead,
    PinRead,
    PrefetchRead,
    Tier,
    UnpinRead,
    WhyRead,
)
from adaptry.client.transport.operations import Group, operation, pages, stream
from adaptry.client.transport.requests import FOR_EVER, Given, given

S_co = TypeVar("S_co", covariant=True)


class Cache(Group[S_co]):
    """See and steer what is resident. References are those of `model`: name, name@alias, name:3."""

    @operation("GET", "/api/v1/cache", CacheRead)
    def show(self) -> Given:
        """Who is in a slot, who in host memory, who is leased, pinned or on the way."""
        return Given()

    @operation("GET", "/api/v1/cache/engine", EngineTruthRead)
    def engine(self) -> Given:
        """Read back what vLLM holds and compare; a difference counts as drift."""
        return Given()

    @pages("/api/v1/cache/pins", PinRead)
    def pins(self) -> Given:
        """What is pinned, the oldest first."""
        return Given()

    @operation("POST", "/api/v1/cache/pins", PinRead)
    def pin(
        self,
        reference: str,
        tier: Tier = "gpu",
        *,
        ttl_seconds: float | None = None,
        replicas: int | None = None,
    ) -> Given:
        """Bring the adapter in and keep it; answers when it is there.

        `gpu` keeps its slot, `host` its host memory; on that many of several engines, or on all.
        Raises Conflict if too many are pinned.
        """
        return Given(
            body=given(reference=reference, tier=tier, ttl_seconds=ttl_seconds, replicas=replicas)
        )

    @operation("DELETE", "/api/v1/cache/pins/{reference}", UnpinRead)
    def unpin(self, reference: str) -> Given:
        """Let it be evicted again."""
        return Given({"reference": reference})

    @operation("POST", "/api/v1/cache/prefetch", PrefetchRead)
    def prefetch(self, reference: str, *, replicas: int | None = None) -> Given:
        """Load it into host memory in the background, without taking a slot."""
        return Given(body=given(reference=reference, replicas=replicas))

    @operation("POST", "/api/v1/cache/evict", EvictRead)
    def evict(self, reference: str, *, wait: bool = False, force: bool = False) -> Given:
        """Out of both tiers. Raises Conflict while it is pinned, leased or awaited.

        `wait`: until nobody uses it any more; `force`: end the requests that use it.
        """
        body = given(reference=reference, wait=wait, force=force)
        return Given(body=body, patience_seconds=FOR_EVER if wait else None)

    @operation("GET", "/api/v1/cache/why/{reference}", WhyRead)
    def why(self, reference: str) -> Given:
        """Where this version is, what last happened to it, and what would help."""
        return Given({"reference": reference})

    @operation("GET", "/api/v1/cache/decisions", DecisionList)
    def decisions(
        self, *, adapter: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Given:
        """The last decisions, the oldest first, or the first ones after an id."""
        return Given(query={"adapter": adapter, "after": after, "limit": limit})

    @stream("/api/v1/cache/stream", DecisionRead)
    def stream(self, *, adapter: str | None = None, after: int | None = None) -> Given:
        """Decisions as they are taken, without end, over as many connections as it takes.

        Begins after the decision `after`, else now. Raises NoAnswer if there is no connection at
        first, or none for a minute.
        """
        return Given(query={"adapter": adapter, "after": after})
