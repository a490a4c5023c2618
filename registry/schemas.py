"""What the REST API takes and gives. Read models have no defaults: clients see every field."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VersionCreate(_Body):
    """Where the files are that PEFT saved."""

    source: Annotated[
        str, Field(min_length=1, max_length=4096, examples=["/srv/adapters/support-bot"])
    ]
    description: Annotated[str | None, Field(max_length=4096)] = None


class AliasPut(_Body):
    """Leave `expected_version` out to move it in any case; null means it must not exist yet."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    expected_version: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    reason: Annotated[str | None, Field(max_length=1024)] = None


class VersionRead(BaseModel):
    """One immutable version."""

    adapter: str
    number: int
    reference: str
    digest: str
    state: str
    state_reason: str | None
    rank: int
    alpha: float
    target_modules: list[str]
    dtype: str
    base_model: str | None
    size_bytes: int
    source: str
    revision: str | None
    created_at: datetime
    created_by: str


class AdapterRead(BaseModel):
    """A name under which versions are published."""

    name: str
    description: str | None
    created_at: datetime


class AliasRead(BaseModel):
    adapter: str
    alias: str
    version: int
    reference: str
    moved_at: datetime


class EventRead(BaseModel):
    """Who changed what."""

    id: int
    at: datetime
    actor: str
    kind: str
    alias: str | None
    from_version: int | None
    to_version: int | None
    reason: str | None


class AdapterPage(BaseModel):
    items: list[AdapterRead]
    next_page_token: str | None


class VersionPage(BaseModel):
    items: list[VersionRead]
    next_page_token: str | None


class EventPage(BaseModel):
    items: list[EventRead]
    next_page_token: str | None


class AliasList(BaseModel):
    items: list[AliasRead]


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
