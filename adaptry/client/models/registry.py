"""Models of the responses of the routes of registry.

Written by `make reference` from docs/openapi.json.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, Field
from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel


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
    "AdapterSort",
    Literal[
        "name",
        "created",
        "owner",
        "version",
        "state",
        "rank",
        "size",
        "versions",
        "aliases",
        "tags",
        "description",
        "memory",
        "asked",
        "hits",
    ],
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
    `pending_bytes`: what is deleted later, as in the response of a purge.
    """

    dry_run: bool
    purged: list[GarbageItem]
    refused: dict[str, str]
    kept: dict[str, int]
    orphans: list[str]
    freed_bytes: int
    pending_bytes: int
    more: bool


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


class PromptSetRead(ResponseModel):
    name: str
    prompts: list[str]
    updated_at: AwareDatetime
    updated_by: str


class PromptSetSummary(ResponseModel):
    """A set in the list; `number`: of its prompts."""

    name: str
    number: int
    updated_at: AwareDatetime
    updated_by: str


class PromptSetList(ResponseModel):
    items: list[PromptSetSummary]


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
    """
    `freed_bytes` and `pending_bytes` are 0 if another version has the same files.

    `pending_bytes` are not freed yet: the store did not delete them in time, or a client that
    registers the same files may need them. They go later, unless a version needs them then.
    """

    version: VersionRead
    freed_bytes: int
    pending_bytes: int


class VersionPage(ResponseModel):
    items: list[VersionRead]
    next_page_token: str | None


VersionState = TypeAliasType(
    "VersionState",
    Literal["pending", "ready", "deprecated", "retired", "purged", "rejected", "quarantined"],
)


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
    """
    Rows from an offset, and how many rows there are in all.

    `as_of`: of an order that only the cache knows, which changes all the time: with it, further
    rows come in the same order. An order is kept for a while; if it is not, another one is sent.
    """

    items: list[OverviewItem]
    total: int
    as_of: str | None = None
