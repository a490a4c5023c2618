"""Models of the server's responses. Written by `make reference` from docs/openapi.json."""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType


class ResponseModel(BaseModel):
    """A response of the server. Keeps unknown fields, which a newer server may send."""

    model_config = ConfigDict(extra="allow", defer_build=True)


class AdapterRead(ResponseModel):
    """A name under which versions are published."""

    name: str
    description: str | None
    owner: str | None
    tags: list[str]
    metadata: dict[str, Any]
    serve_chat_template: bool
    serve_sampling_defaults: bool
    created_at: AwareDatetime
    updated_at: AwareDatetime | None


class AdapterPage(ResponseModel):
    items: list[AdapterRead]
    next_page_token: str | None


AdapterSort = TypeAliasType(
    "AdapterSort", Literal["name", "created", "owner", "version", "state", "rank", "size"]
)


class BaseRead(ResponseModel):
    """
    A base model that a server has served. `digest` covers `facts`, what adapters have to fit.

    `versions`: how many are bound to it. `links`: those declared compatible with it. `is_this`: the
    one that the server serves that was asked.
    """

    name: str
    digest: str
    facts: dict[str, Any]
    created_at: AwareDatetime
    versions: int
    links: list[str]
    is_this: bool


class BaseList(ResponseModel):
    items: list[BaseRead]


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


CacheOutcome = TypeAliasType("CacheOutcome", Literal["gpu_hit", "host_hit", "miss"])


DeliveryState = TypeAliasType("DeliveryState", Literal["pending", "delivered", "failed"])


class DeliveryRead(ResponseModel):
    """One message. `event_id` is null for a test."""

    id: int
    message_id: str
    kind: str
    event_id: int | None
    state: DeliveryState
    attempts: int
    next_attempt_at: AwareDatetime | None
    status_code: int | None
    error: str | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class DeliveryPage(ResponseModel):
    items: list[DeliveryRead]
    next_page_token: str | None


class EngineTruthRead(ResponseModel):
    """What vLLM itself holds: version ids in its own LRU order, replica by replica."""

    gpu: list[int]
    host: list[int]
    in_step_loads: int


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


class EventRead(ResponseModel):
    """
    Who changed what. `uid` is the same in every registry that has imported it.

    `address` is the client's: `local` for a command on the server's machine, null for the server's
    own changes. It is also null where others may read it: in the events of one adapter, in
    webhooks, and for a tenant's keys.
    """

    id: int
    uid: str
    at: AwareDatetime
    actor: str
    address: str | None
    kind: str
    adapter: str | None
    alias: str | None
    from_version: int | None
    to_version: int | None
    reason: str | None
    data: dict[str, Any]
    imported: bool


class EventPage(ResponseModel):
    items: list[EventRead]
    next_page_token: str | None


class EvictRead(ResponseModel):
    reference: str
    evicted: bool = Field(..., description="False if it was on disk only.")


EvictionPolicy = TypeAliasType(
    "EvictionPolicy", Literal["adaptive", "look-ahead", "lru", "lfu", "s3-fifo", "cost"]
)


EvictionReason = TypeAliasType(
    "EvictionReason", Literal["capacity", "host_evicted", "requested", "tenant_limit", "drift"]
)


class FanoutAnswer(ResponseModel):
    """
    Of one model. `answer`: as its own route answers; null where `error` says why there is none.

    `version`: the one that answered, null for the base model. `invocation`: of an activated
    adapter, `found` or `missing`.
    """

    status: int
    version: str | None = None
    invocation: str | None = None
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class FanoutUsage(ResponseModel):
    """Summed over all models. `cached_tokens`: of the prompts, found in the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


class FanoutResponse(ResponseModel):
    """`answers` by name."""

    answers: dict[str, FanoutAnswer]
    usage: FanoutUsage


class FindingRead(ResponseModel):
    code: str
    detail: str


class GarbageItem(ResponseModel):
    reference: str
    state: str
    size_bytes: int


class GarbageRead(ResponseModel):
    """
    `kept` counts kept versions by rule: `aliased`, `last`, `rollback_window`.

    `refused`: versions that could not be purged now, with the error's code. With `more`, repeat.
    """

    dry_run: bool
    purged: list[GarbageItem]
    refused: dict[str, str]
    kept: dict[str, int]
    orphans: list[str]
    freed_bytes: int
    more: bool


class GrantRead(ResponseModel):
    """This tenant may use the adapter."""

    tenant: str
    granted_at: AwareDatetime
    granted_by: str


class GrantList(ResponseModel):
    items: list[GrantRead]


class ImportRead(ResponseModel):
    """
    What was changed, or would be.

    `further_numbers`: by each new one, the version that it means: its content was imported under
    several numbers. `orphans`: versions whose parent is not here. `skipped`: reasons by reference.
    `remarks`: by the code of an inspection's remark, the new versions that have it (100 of them at
    most).
    """

    dry_run: bool
    adapters_added: int
    versions_added: int
    versions_unchanged: int
    further_numbers: dict[str, str]
    aliases_set: int
    aliases_kept: list[str]
    events_added: int
    orphans: list[str]
    skipped: dict[str, str]
    remarks: dict[str, list[str]]


class InspectionRead(ResponseModel):
    """
    What was checked. `engine`: the engine whose supported modules were used; null without one.

    `ranks` counts modules by rank, `files` has bytes by name. `invocation_tokens`: of an activated
    adapter, null for a plain one.
    """

    engine: str | None
    shapes_checked: bool
    modules: int
    ranks: dict[str, int]
    tensors: int
    parameters: int
    files: dict[str, int]
    remarks: list[FindingRead]
    invocation_tokens: list[int] | None = None


class AdapterFacts(ResponseModel):
    """Facts that registering these files would store."""

    kind: Literal["lora", "activated"]
    rank: int
    alpha: float
    target_modules: list[str]
    dtype: str
    base_model: str | None
    size_bytes: int
    inspection: InspectionRead


InvalidVersions = TypeAliasType("InvalidVersions", Literal["refuse", "skip"])


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


class JobPage(ResponseModel):
    items: list[JobRead]
    next_page_token: str | None


JobState = TypeAliasType(
    "JobState", Literal["receiving", "queued", "running", "succeeded", "failed", "cancelled"]
)


class JobsCancelled(ResponseModel):
    """How many jobs were told to stop. `more`: there may be others that match."""

    cancelled: int
    more: bool


MissCause = TypeAliasType("MissCause", Literal["cold", "evicted", "new_version", "restart"])


class MoreRead(ResponseModel):
    """Decisions that were not recorded singly. `count` null: some of them are of others."""

    since: AwareDatetime
    at: AwareDatetime
    count: int | None


class NameRead(ResponseModel):
    """A served name of an adapter, and the reference that it stands for."""

    name: str
    adapter: str
    reference: str
    alias: str | None
    version: int | None
    created_at: AwareDatetime
    created_by: str


class NameList(ResponseModel):
    items: list[NameRead]


OtherAliases = TypeAliasType("OtherAliases", Literal["keep", "replace"])


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


class PlaceRatioRead(ResponseModel):
    """What LRU would have hit with so many places in all."""

    places: int
    lru: float


class PrefetchRead(ResponseModel):
    reference: str


class ProbeRead(ResponseModel):
    """`difference` is null if the engine computed no finite numbers; `code` is the failure."""

    reference: str
    passed: bool
    code: str | None
    difference: float | None
    noise: float


class ProblemRead(ResponseModel):
    """A defect. `count`: how often it was found; `detail` describes the first."""

    code: str
    detail: str
    count: int


class ReplicaRead(ResponseModel):
    """One of several engines. `engine_up` false: it is being replaced."""

    name: str
    slots: int
    host_capacity: int
    host_bytes: int
    host_bytes_limit: int | None
    slots_by_state: dict[str, int]
    waiting: int
    engine_up: bool


Scope = TypeAliasType("Scope", Literal["infer", "publish", "operate", "admin"])


class CallerRead(ResponseModel):
    """`prefix` begins every text of the key. Where no keys are required there is none."""

    name: str
    tenant: str | None
    scopes: list[Scope]
    prefix: str | None
    expires_at: AwareDatetime | None


class KeyCreated(ResponseModel):
    """`key` is never shown again."""

    name: str
    prefix: str
    tenant: str | None
    scopes: list[Scope]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    previous_valid_until: AwareDatetime | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None
    key: str


class KeyRead(ResponseModel):
    """`prefix` begins every text of this key; `last_used_at` may be a minute late."""

    name: str
    prefix: str
    tenant: str | None
    scopes: list[Scope]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    previous_valid_until: AwareDatetime | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None


class KeyPage(ResponseModel):
    items: list[KeyRead]
    next_page_token: str | None


class SecretRotated(ResponseModel):
    """`secret` is never shown again."""

    secret: str
    previous_valid_until: AwareDatetime


class TenantRead(ResponseModel):
    """A tenant. Its adapters are named `name~…`."""

    name: str
    created_at: AwareDatetime
    created_by: str
    max_requests_in_flight: int | None
    max_slots: int | None
    max_host_bytes: int | None
    max_pins: int | None
    max_storage_bytes: int | None
    max_registrations_per_hour: int | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None


class TenantPage(ResponseModel):
    items: list[TenantRead]
    next_page_token: str | None


class TenantUsage(ResponseModel):
    """
    Usage of its limits: stored bytes and registrations over all servers on this database, the
    rest in the answering server. `slots`: adapters that requests hold or await.
    """

    requests_in_flight: int
    slots: int
    host_bytes: int
    pins: int
    storage_bytes: int
    registrations_in_last_hour: int


class TenantUsageRead(ResponseModel):
    """A tenant, its limits and its usage."""

    name: str
    created_at: AwareDatetime
    created_by: str
    max_requests_in_flight: int | None
    max_slots: int | None
    max_host_bytes: int | None
    max_pins: int | None
    max_storage_bytes: int | None
    max_registrations_per_hour: int | None
    max_requests_per_minute: int | None
    max_tokens_per_minute: int | None
    max_bytes_per_minute: int | None
    usage: TenantUsage


class TenantUsagePage(ResponseModel):
    items: list[TenantUsageRead]
    next_page_token: str | None


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


class DecisionList(ResponseModel):
    """Oldest first. `oldest_id`: the oldest in the log; earlier ones are dropped."""

    items: list[DecisionRead]
    oldest_id: int | None
    newest_id: int


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


class PinRead(ResponseModel):
    reference: str
    tier: Tier
    expires_at: AwareDatetime | None
    replicas: int | None = None


class PinList(ResponseModel):
    items: list[PinRead]


class ResidentRead(ResponseModel):
    """
    One adapter in a tier. `hits` counts the requests that found it in memory.

    `size_bytes` is the size of its files, `host_bytes` its size in host memory. `slot` is the
    number of its GPU slot, `idle_seconds` the time since a request last held it. One that is
    `leaving` takes no new requests, and is evicted once it is idle.
    """

    reference: str
    version_id: int
    rank: int
    size_bytes: int
    host_bytes: int
    pinned: Tier | None
    leases: int
    waiting: int
    hits: int
    slot: int | None
    idle_seconds: float
    leaving: bool
    replica: str | None = Field(None, description="Null if there is only one engine.")


class CacheRead(ResponseModel):
    """
    Both tiers, next victim first; `hidden` counts adapters that the caller may not see.

    Totals over all replicas; `replicas` lists each, and is empty if there is only one engine.
    """

    slots: int
    host_capacity: int
    host_bytes: int
    host_bytes_limit: int | None
    slots_by_state: dict[str, int]
    waiting: int
    loading: list[str]
    gpu: list[ResidentRead]
    host: list[ResidentRead]
    hidden: dict[str, int]
    replicas: list[ReplicaRead] = Field([], validate_default=True)


class ServerRead(ResponseModel):
    """
    A server that has started on this database. `is_this`: the one that was asked.

    `residents`: what it last had in host memory, most recently used first; they and the pins are
    as it recorded them, and its own again after a restart. `base`: its base model.
    """

    name: str
    base: str | None
    started_at: AwareDatetime
    is_this: bool
    pins: list[PinRead]
    residents: list[str]


class ServerList(ResponseModel):
    items: list[ServerRead]


class StandingRead(ResponseModel):
    """Where the version is now."""

    tier: Tier | Literal["disk"]
    slot: int | None
    pinned: Tier | None
    leases: int
    waiting: int
    loading: bool
    leaving: bool
    idle_seconds: float | None
    hits: int
    next_victim: bool = Field(..., description="It would be evicted next from its tier.")
    replica: str | None = Field(None, description="Null if there is only one engine.")


class TierPolicyRead(ResponseModel):
    """Hit ratios of one tier over the last lookups, of the live cache and of its shadows."""

    tier: Tier
    places: int
    live: float
    lru: float
    optimum: float = Field(..., description="Of a policy that knows what comes.")
    candidate: float | None = Field(..., description="Null without `--shadow-policy`.")
    places_for_half: int | None = Field(
        ..., description="With so many, LRU would have hit half of the misses that more can mend"
    )
    lookups: int = Field(..., description="So many were counted, the last ones.")
    curve: list[PlaceRatioRead] = Field(
        ..., description="By places, up to as many as would hit anything more."
    )


class PolicyRead(ResponseModel):
    """The eviction policy and its shadows. `mend`: the cheapest change that helps."""

    policy: EvictionPolicy
    candidate: EvictionPolicy | None
    tiers: list[TierPolicyRead] = Field(..., description="Empty before the first lookup.")
    mend: str


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


class UnpinRead(ResponseModel):
    reference: str
    tier: Tier


class Usage(ResponseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateResponse(ResponseModel):
    """One text per prompt."""

    text: list[str]
    usage: Usage


class UsedRateRead(ResponseModel):
    """`used` may exceed `limit`: tokens are known at the end only."""

    limit: int
    used: int = Field(..., description="In the last minute.")
    remaining: int
    reset_seconds: float = Field(
        ..., description="Until all of it is free again, without further requests."
    )


class RateUsageRead(ResponseModel):
    """What a key or a tenant has used of its limits per minute; null: no limit."""

    name: str
    requests: UsedRateRead | None
    tokens: UsedRateRead | None
    bytes: UsedRateRead | None


class RateUsagePage(ResponseModel):
    items: list[RateUsageRead]
    next_page_token: str | None


class VerdictRead(ResponseModel):
    """`problems` is empty if `accepted`, and then `adapter` is not null."""

    accepted: bool
    problems: list[ProblemRead]
    adapter: AdapterFacts | None


class VersionRead(ResponseModel):
    """
    One immutable version.

    `base`: the base model that it was checked against and is bound to, null if it is bound to none
    yet; `base_model`: what its configuration names. `has_chat_template`: it was trained with one
    that is not the base model's. `sampling_defaults`: those of its `generation_config.json`, if
    they are not the base model's. `kind`: `activated` adapters have no effect before their
    invocation in the prompt. `further_numbers` mean this version too: another registry had this
    content under them as well.
    """

    adapter: str
    number: int
    further_numbers: list[int]
    reference: str
    kind: Literal["lora", "activated"]
    digest: str
    content_digest: str | None
    state: str
    state_reason: str | None
    state_code: str | None
    state_changed_at: AwareDatetime | None
    rank: int
    alpha: float
    target_modules: list[str]
    dtype: str
    base_model: str | None
    base: str | None
    size_bytes: int
    source: str
    revision: str | None
    inspection: InspectionRead | None
    has_chat_template: bool
    sampling_defaults: dict[str, Any] | None
    created_at: AwareDatetime
    created_by: str
    description: str | None
    tags: list[str]
    metadata: dict[str, Any]
    parent: str | None
    training_run: str | None
    dataset: str | None
    updated_at: AwareDatetime | None


class PurgeRead(ResponseModel):
    """`freed_bytes` is 0 if another version has the same files."""

    version: VersionRead
    freed_bytes: int


class VersionPage(ResponseModel):
    items: list[VersionRead]
    next_page_token: str | None


VersionState = TypeAliasType(
    "VersionState",
    Literal["pending", "ready", "deprecated", "retired", "purged", "rejected", "quarantined"],
)


class WebhookCreated(ResponseModel):
    """`secret` is never shown again."""

    id: int
    url: str
    description: str | None
    kinds: list[str]
    adapters: list[str]
    enabled: bool
    disabled_reason: str | None
    failures: int
    paused_until: AwareDatetime | None
    pending: int
    created_at: AwareDatetime
    created_by: str
    secret: str


class WebhookRead(ResponseModel):
    """An endpoint. `failures`: consecutive failed attempts; `pending`: undelivered messages."""

    id: int
    url: str
    description: str | None
    kinds: list[str]
    adapters: list[str]
    enabled: bool
    disabled_reason: str | None
    failures: int
    paused_until: AwareDatetime | None
    pending: int
    created_at: AwareDatetime
    created_by: str


class WebhookPage(ResponseModel):
    items: list[WebhookRead]
    next_page_token: str | None


class WeightRead(ResponseModel):
    version: int
    weight: int


class AliasRead(ResponseModel):
    """
    State of an alias, valid from `valid_from` to `valid_to`.

    `version` is the one with the largest weight.
    """

    adapter: str
    alias: str
    reference: str
    version: int
    weights: list[WeightRead]
    revision: int
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    moved_by: str
    reason: str | None


class AliasList(ResponseModel):
    items: list[AliasRead]


class AliasPage(ResponseModel):
    items: list[AliasRead]
    next_page_token: str | None


class OverviewItem(ResponseModel):
    """
    An adapter as a row of a table.

    `version` is its default version, or its newest one if the alias `default` doesn't exist;
    `aliases`: the version with the largest weight of each; `splits`: the weights of those that
    point at several; `versions`: how many it has.
    """

    name: str
    description: str | None
    owner: str | None
    tags: list[str]
    metadata: dict[str, Any]
    serve_chat_template: bool
    serve_sampling_defaults: bool
    created_at: AwareDatetime
    updated_at: AwareDatetime | None
    aliases: dict[str, int]
    splits: dict[str, list[WeightRead]] = Field({}, validate_default=True)
    versions: int
    version: int | None
    state: str | None
    rank: int | None
    size_bytes: int | None
    version_tags: list[str]


class OverviewPage(ResponseModel):
    """Rows from an offset, and how many rows there are in all."""

    items: list[OverviewItem]
    total: int


class WhyRead(ResponseModel):
    """One version explained; `decisions` newest first. `now`: on the nearest replica."""

    reference: str
    adapter: str
    version_id: int
    now: StandingRead
    summary: str
    decisions: list[DecisionRead]
    replicas: list[StandingRead] = Field(
        [], description="On each of several replicas.", validate_default=True
    )
