"""Models of the responses of several groups of routes.

Written by `make reference` from docs/openapi.json.
"""

from typing import Literal

from pydantic import AwareDatetime, Field
from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel

CacheOutcome = TypeAliasType("CacheOutcome", Literal["gpu_hit", "host_hit", "miss"])
EventKind = TypeAliasType(
    "EventKind",
    Literal[
        "adapter.imported",
        "adapter.updated",
        "version.registered",
        "version.updated",
        "version.deprecated",
        "version.restored",
        "version.retired",
        "version.quarantined",
        "version.rechecked",
        "version.purged",
        "alias.moved",
        "ingest.failed",
        "ingest.cancelled",
        "alias.split",
        "alias.deleted",
        "name.set",
        "name.removed",
        "webhook.added",
        "webhook.changed",
        "webhook.disabled",
        "webhook.removed",
        "webhook.retried",
        "key.created",
        "key.changed",
        "key.rotated",
        "key.revoked",
        "cache.pinned",
        "cache.unpinned",
        "cache.evicted",
        "server.forgotten",
        "base.linked",
        "base.unlinked",
        "store.collected",
        "tenant.created",
        "tenant.changed",
        "tenant.deleted",
        "grant.added",
        "grant.removed",
    ],
)
EvictionReason = TypeAliasType(
    "EvictionReason", Literal["capacity", "host_evicted", "requested", "tenant_limit", "drift"]
)


class JobRead(ResponseModel):
    """
    One registration in the background.

    `bytes_total` is null while unknown. `code` and `detail` say why it failed, or is retried.
    `version` is set once it has succeeded; `created` is false if that version existed before.
    """

    id: int
    adapter: str
    source: str
    state: str
    step: str | None
    attempts: int
    bytes_done: int
    bytes_total: int | None
    cancel_requested: bool
    code: str | None
    detail: str | None
    version: str | None
    created: bool | None
    created_at: AwareDatetime
    created_by: str
    started_at: AwareDatetime | None
    next_attempt_at: AwareDatetime | None
    finished_at: AwareDatetime | None


MissCause = TypeAliasType("MissCause", Literal["cold", "evicted", "new_version", "restart"])
Tier = TypeAliasType("Tier", Literal["gpu", "host"])


class DecisionRead(ResponseModel):
    """
    One event of the cache. Fields that do not apply to its kind are null.

    `seconds`: how long a lookup waited or a load took. `for_reference`: the adapter that it made
    room for. `count`: how many equal events in a row this one ends.
    """

    id: int
    at: AwareDatetime
    kind: Literal[
        "looked_up",
        "refused",
        "load_started",
        "moved_in",
        "fell_back",
        "load_failed",
        "evicted",
        "drained",
        "pinned",
        "unpinned",
        "drifted",
        "engine_lost",
        "engine_ready",
    ]
    adapter: str | None = Field(..., description="Null: it concerns all of them.")
    reference: str | None
    version_id: int | None
    tier: Tier | None = None
    slot: int | None = None
    outcome: CacheOutcome | None = None
    cause: MissCause | None = None
    reason: EvictionReason | None = None
    seconds: float | None = None
    idle_seconds: float | None = None
    for_reference: str | None = None
    code: str | None = None
    count: int = 1
    replica: str | None = Field(None, description="Null if there is only one engine.")
    sentence: str
