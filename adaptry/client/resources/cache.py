"""`client.cache`: which adapters are in GPU slots and host memory, and why."""

from datetime import datetime
from types import NoneType
from typing import TypeVar

from adaptry.client.models import (
    CacheRead,
    DecisionList,
    DecisionRead,
    EngineTruthRead,
    EvictRead,
    HistoryRead,
    PastDecisionList,
    PastRead,
    PinRead,
    PolicyRead,
    PrefetchRead,
    ServerList,
    Tier,
    UnpinRead,
    WhyRead,
)
from adaptry.client.transport.operations import Resource, download, operation, pages, stream
from adaptry.client.transport.requests import (
    NO_TIMEOUT,
    Parameters,
    QueryValue,
    format_time,
    without_none,
)

T_co = TypeVar("T_co", covariant=True)


class Cache(Resource[T_co]):
    """Inspect and control what is resident. References: name, name@alias or name:3."""

    @operation("GET", "/api/v1/cache", CacheRead)
    def show(self) -> Parameters:
        """What is in slots and host memory; what is leased, pinned or loading."""
        return Parameters()

    @operation("GET", "/api/v1/cache/policy", PolicyRead)
    def policy(self) -> Parameters:
        """The eviction policy, what it and others hit of the last lookups, and what would help."""
        return Parameters()

    @operation("GET", "/api/v1/cache/engine", EngineTruthRead)
    def engine(self) -> Parameters:
        """Read back what vLLM holds and compare; differences count as drift."""
        return Parameters()

    @pages("/api/v1/cache/pins", PinRead)
    def pins(self) -> Parameters:
        """All pins, the oldest first."""
        return Parameters()

    @operation("POST", "/api/v1/cache/pins", PinRead)
    def pin(
        self,
        reference: str,
        tier: Tier = "gpu",
        *,
        ttl_seconds: float | None = None,
        replicas: int | None = None,
    ) -> Parameters:
        """Load the adapter and keep it in memory; returns once it is loaded.

        `gpu` keeps its slot, `host` its host memory; `replicas`: on that many engines, by default
        on all. Raises Conflict if too many are pinned.
        """
        return Parameters(
            body=without_none(
                reference=reference, tier=tier, ttl_seconds=ttl_seconds, replicas=replicas
            )
        )

    @operation("DELETE", "/api/v1/cache/pins/{reference}", UnpinRead)
    def unpin(self, reference: str) -> Parameters:
        """Allow it to be evicted again."""
        return Parameters({"reference": reference})

    @operation("GET", "/api/v1/cache/servers", ServerList)
    def servers(self) -> Parameters:
        """Every server on this database with its pins and residents, side by side."""
        return Parameters()

    @operation("DELETE", "/api/v1/cache/servers/{name}", NoneType)
    def forget_server(self, name: str) -> Parameters:
        """Remove a server that will not come back, with its pins and residents."""
        return Parameters(path={"name": name})

    @download("/api/v1/cache/trace")
    def trace(self) -> Parameters:
        """The recorded arrivals of the server as lines of JSON, the oldest first, in chunks.

        `with client.cache.trace() as chunks: …`. Raises Conflict if it records none.
        """
        return Parameters(timeout_seconds=NO_TIMEOUT)

    @operation("POST", "/api/v1/cache/prefetch", PrefetchRead)
    def prefetch(self, reference: str, *, replicas: int | None = None) -> Parameters:
        """Load it into host memory in the background, without taking a slot."""
        return Parameters(body=without_none(reference=reference, replicas=replicas))

    @operation("POST", "/api/v1/cache/evict", EvictRead)
    def evict(self, reference: str, *, wait: bool = False, force: bool = False) -> Parameters:
        """Evict from both tiers. Raises Conflict while it is pinned, leased or awaited.

        `wait`: until no request uses it; `force`: end the requests that use it.
        """
        body = without_none(reference=reference, wait=wait, force=force)
        return Parameters(body=body, timeout_seconds=NO_TIMEOUT if wait else None)

    @operation("GET", "/api/v1/cache/history", HistoryRead)
    def history(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        of: str | None = None,
        adapter: str | None = None,
        buckets: int | None = None,
    ) -> Parameters:
        """Hits, misses, loads, evictions and waits over time; by default of the last day.

        `of`: another server on the same database. Raises Conflict if none is recorded.
        """
        chosen = {"server": of, "adapter": adapter, "buckets": buckets}
        return Parameters(query=_range(since, until) | chosen)

    @operation("GET", "/api/v1/cache/history/state", PastRead)
    def state_at(self, at: datetime | str, *, of: str | None = None) -> Parameters:
        """What was in slots and host memory then, and who waited. `of`: see `history`."""
        return Parameters(query={"at": format_time(at), "server": of})

    @operation("GET", "/api/v1/cache/history/decisions", PastDecisionList)
    def past_decisions(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        of: str | None = None,
        adapter: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> Parameters:
        """Recorded decisions, the oldest first. `after`: `next` of the page before."""
        chosen = {"server": of, "adapter": adapter, "after": after, "limit": limit}
        return Parameters(query=_range(since, until) | chosen)

    @operation("GET", "/api/v1/cache/why/{reference}", WhyRead)
    def why(self, reference: str) -> Parameters:
        """Where this version is, what last happened to it, and what would help."""
        return Parameters({"reference": reference})

    @operation("GET", "/api/v1/cache/decisions", DecisionList)
    def decisions(
        self, *, adapter: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Parameters:
        """The last decisions, the oldest first, or the first ones after an id."""
        return Parameters(query={"adapter": adapter, "after": after, "limit": limit})

    @stream("/api/v1/cache/stream", DecisionRead)
    def stream(self, *, adapter: str | None = None, after: int | None = None) -> Parameters:
        """Decisions as they are taken, without end; reconnects as often as needed.

        Starts after the decision `after`, else now. Raises NoAnswer if the first connection fails,
        or if there is none for a minute.
        """
        return Parameters(query={"adapter": adapter, "after": after})


def _range(since: datetime | str | None, until: datetime | str | None) -> dict[str, QueryValue]:
    return {"from": format_time(since), "to": format_time(until)}
