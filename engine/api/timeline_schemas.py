"""Timeline schemas: what was counted over time, and of which times nothing is known."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from engine.history.counts import COUNTED, LONGEST
from engine.history.replay import to_time
from engine.history.timeline import Bucket, Unknown


class UnknownRead(BaseModel):
    """Nothing is recorded: the server did not run, or could not save it. Null: not known when."""

    since: datetime | None
    until: datetime | None


class BucketRead(BaseModel):
    """Counts of a part of the range. `evictions` are those from slots.

    `recorded_seconds` 0: nothing is known of it.
    """

    at: datetime
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


class HistoryRead(BaseModel):
    """What was counted, bucket by bucket. For a tenant: of the adapters that it may see.

    `servers`: all whose history is kept; `oldest`: when that of this one begins. `replicas`: of
    the fleet of which this one is a replica, those that ran in the range; else none.
    """

    server: str
    servers: list[str]
    replicas: list[str] = []
    keep_hours: float
    oldest: datetime | None
    since: datetime
    until: datetime
    bucket_seconds: int
    buckets: list[BucketRead]
    unknown: list[UnknownRead]
    grafana: Annotated[
        str | None, Field(description="Address of the cache's dashboard, if one is configured.")
    ]


def unknown_read(unknown: Unknown) -> UnknownRead:
    return UnknownRead(since=optional_time(unknown.since), until=optional_time(unknown.until))


def optional_time(at: int | None) -> datetime | None:
    return None if at is None else to_time(at)


def bucket_read(bucket: Bucket) -> BucketRead:
    counts = {name: bucket.counts.get(name, 0) for name in (*COUNTED, LONGEST)}
    seconds = {
        name: round(number, 6) if name.endswith("_seconds") else int(number)
        for name, number in counts.items()
    }
    return BucketRead.model_validate(
        {"at": to_time(bucket.at), "recorded_seconds": round(bucket.recorded_seconds, 3), **seconds}
    )
