"""Request and response schemas of the catalog. Read models have no defaults."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool

from registry.catalog.field_types import Body, Metadata, Name, Prose, Reference, Tags, Text


class VersionCreate(Body):
    """Source of the files that PEFT saved, and metadata.

    `description` is a new adapter's too.
    """

    source: Annotated[
        Text, Field(min_length=1, max_length=4096, examples=["/srv/adapters/support-bot"])
    ]
    description: Annotated[Prose | None, Field(max_length=4096)] = None
    tags: Tags = ()
    metadata: Metadata = Field(default_factory=dict)
    parent: Reference | None = None
    training_run: Annotated[Text | None, Field(max_length=1024)] = None
    dataset: Annotated[Text | None, Field(max_length=1024)] = None


class AdapterPatch(Body):
    """Omitted fields stay as they are. `metadata` is merged key by key, and null removes a key.

    `tags` replaces all tags; `add_tags` and `remove_tags` change only those.
    `serve_chat_template` and `serve_sampling_defaults`: requests get what the version was trained
    with instead of the base model's.
    """

    description: Annotated[Prose | None, Field(max_length=4096)] = None
    owner: Annotated[Name | None, Field(examples=["team-support"])] = None
    tags: Tags | None = None
    add_tags: Tags = ()
    remove_tags: Tags = ()
    metadata: Metadata = Field(default_factory=dict)
    serve_chat_template: StrictBool = False
    serve_sampling_defaults: StrictBool = False


class VersionPatch(Body):
    """As for an adapter. `parent` is the version that this one was made from: `support:2`."""

    description: Annotated[Prose | None, Field(max_length=4096)] = None
    tags: Tags | None = None
    add_tags: Tags = ()
    remove_tags: Tags = ()
    metadata: Metadata = Field(default_factory=dict)
    parent: Reference | None = None
    training_run: Annotated[Text | None, Field(max_length=1024)] = None
    dataset: Annotated[Text | None, Field(max_length=1024)] = None


class InspectionBody(Body):
    """Source of the files to inspect."""

    source: Annotated[Text, Field(min_length=1, max_length=4096)]


class FindingRead(BaseModel):
    code: str
    detail: str


AdapterKind = Literal["lora", "activated"]


class ProblemRead(FindingRead):
    """A defect. `count`: how often it was found; `detail` describes the first."""

    count: int


class InspectionRead(BaseModel):
    """What was checked. `engine`: the engine whose supported modules were used; null without one.

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

    @property
    def kind(self) -> AdapterKind:
        return "lora" if self.invocation_tokens is None else "activated"


class AdapterFacts(BaseModel):
    """Facts that registering these files would store."""

    kind: AdapterKind
    rank: int
    alpha: float
    target_modules: list[str]
    dtype: str
    base_model: str | None
    size_bytes: int
    inspection: InspectionRead


class VerdictRead(BaseModel):
    """`problems` is empty if `accepted`, and then `adapter` is not null."""

    accepted: bool
    problems: list[ProblemRead]
    adapter: AdapterFacts | None


class VersionRead(BaseModel):
    """One immutable version.

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
    kind: AdapterKind
    digest: str
    content_digest: str | None
    state: str
    state_reason: str | None
    state_code: str | None
    state_changed_at: datetime | None
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
    created_at: datetime
    created_by: str
    description: str | None
    tags: list[str]
    metadata: dict[str, Any]
    parent: str | None
    training_run: str | None
    dataset: str | None
    updated_at: datetime | None


class WeightRead(BaseModel):
    version: int
    weight: int


class AdapterRead(BaseModel):
    """A name under which versions are published."""

    name: str
    description: str | None
    owner: str | None
    tags: list[str]
    metadata: dict[str, Any]
    serve_chat_template: bool
    serve_sampling_defaults: bool
    created_at: datetime
    updated_at: datetime | None


class AdapterPage(BaseModel):
    items: list[AdapterRead]
    next_page_token: str | None


class VersionPage(BaseModel):
    items: list[VersionRead]
    next_page_token: str | None


BaseName = Annotated[
    Text, Field(min_length=1, max_length=512, examples=["llama-3.1-8b", "base@0f3c…#1a2b"])
]


class BaseRead(BaseModel):
    """A base model that a server has served. `digest` covers `facts`, what adapters have to fit.

    `versions`: how many are bound to it. `links`: those declared compatible with it. `is_this`: the
    one that the server serves that was asked.
    """

    name: str
    digest: str
    facts: dict[str, Any]
    created_at: datetime
    versions: int
    links: list[str]
    is_this: bool


class BaseList(BaseModel):
    items: list[BaseRead]


class LinkBody(Body):
    """Two base models: by name, without the revision if that is unambiguous, or `NAME#DIGEST`."""

    base: BaseName
    other: BaseName
    reason: Annotated[Text | None, Field(max_length=1024)] = None


class RecheckBody(Body):
    """`from_base`: what the version is bound to now, if that is another base model."""

    from_base: BaseName | None = None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
