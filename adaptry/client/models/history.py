"""Models of the responses of the routes of history.

Written by `make reference` from docs/openapi.json.
"""

from pydantic import AwareDatetime, Field

from adaptry.client.models.response import ResponseModel
from adaptry.client.models.shared import CacheOutcome, DecisionRead, Tier


class BucketRead(ResponseModel):
    """
    Counts of a part of the range. `evictions` are those from slots.

    `recorded_seconds` 0: nothing is known of it.
    """

    at: AwareDatetime
    recorded_seconds: float
    hits: int = 0
    host_hits: int = 0
    misses: int = 0
    refused: int = 0
    loads: int = 0
    load_failures: int = 0
    activations: int = 0
    evictions: int = 0
    host_evictions: int = 0
    drains: int = 0
    waits: int = 0
    waited_seconds: float = 0.0
    longest_wait_seconds: float = 0.0


class MoreRead(ResponseModel):
    """Decisions that were not recorded singly. `count` null: some of them are of others."""

    since: AwareDatetime
    at: AwareDatetime
    count: int | None


class PastLoadRead(ResponseModel):
    reference: str
    since: AwareDatetime


class PastWaitRead(ResponseModel):
    """A request that waited then; until it had its slot, `seconds` after `since`."""

    reference: str
    since: AwareDatetime
    until: AwareDatetime
    seconds: float
    outcome: CacheOutcome


class PastDecisionList(ResponseModel):
    """Oldest first. `next`: `after` of the next page, null at the end."""

    server: str
    items: list[DecisionRead]
    more: list[MoreRead]
    next: int | None


class PastResidentRead(ResponseModel):
    """
    An adapter that was in a tier. `since`: when it entered it.

    `leases` and `waiting` are of `sampled_at`. `host_bytes` null: not recorded.
    """

    reference: str
    adapter: str
    version_id: int
    rank: int
    size_bytes: int
    host_bytes: int | None
    slot: int | None
    pinned: Tier | None
    since: AwareDatetime
    leases: int
    waiting: int
    leaving: bool


class PastCacheRead(ResponseModel):
    """`hidden` counts what the caller may not see. `waits`: who had a slot later."""

    slots: int
    host_capacity: int
    host_bytes_limit: int | None
    engine_up: bool
    exact: bool = Field(..., description="False: in a second with too many decisions.")
    sampled_at: AwareDatetime | None = Field(
        ..., description="When leases and waiting requests were looked at last; null: never."
    )
    waiting: int = Field(..., description="Requests that waited at `sampled_at`.")
    gpu: list[PastResidentRead]
    host: list[PastResidentRead]
    loading: list[PastLoadRead]
    waits: list[PastWaitRead] = Field(..., description="Who waited then and had a slot later.")
    hidden: dict[str, int]


class UnknownRead(ResponseModel):
    """Nothing is recorded: the server did not run, or could not save it. Null: not known when."""

    since: AwareDatetime | None
    until: AwareDatetime | None


class HistoryRead(ResponseModel):
    """
    What was counted, bucket by bucket. For a tenant: of the adapters that it may see.

    `servers`: all whose history is kept; `oldest`: when that of this one begins. `replicas`: of
    the fleet of which this one is a replica, those that ran in the range; else none.
    """

    server: str
    servers: list[str]
    replicas: list[str] = []
    keep_hours: float
    oldest: AwareDatetime | None
    since: AwareDatetime
    until: AwareDatetime
    bucket_seconds: int
    buckets: list[BucketRead]
    unknown: list[UnknownRead]
    grafana: str | None = Field(
        ..., description="Address of the cache's dashboard, if one is configured."
    )


class PastRead(ResponseModel):
    """
    The cache of a server at a time; null if nothing is recorded of it: see `unknown`.

    `replicas`: of the fleet of which this one is a replica, those that ran then; else none.
    """

    server: str
    replicas: list[str] = []
    at: AwareDatetime
    cache: PastCacheRead | None
    unknown: UnknownRead | None
