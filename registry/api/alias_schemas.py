"""Request and response schemas of aliases."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from registry.aliases.promotion import Preparation
from registry.catalog.field_types import Body, Reason, Timestamp, VersionNumber
from registry.catalog.schemas import WeightRead

MAX_SPLIT = 16
MAX_WEIGHT = 1_000_000
MAX_TIMEOUT_SECONDS = 3600


class Weight(BaseModel):
    """A version's share of an alias: its weight over the sum of all."""

    version: VersionNumber
    weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)]


class PreparationBody(Body):
    """Preparation by the engine before the switch, and eviction of the old version after it."""

    warm: Annotated[
        bool | None,
        Field(
            strict=True,
            description="Load it into memory first. By default if there is an engine.",
        ),
    ] = None
    probe: Annotated[
        bool, Field(strict=True, description="Generate with it first; refused if that fails.")
    ] = False
    timeout_seconds: Annotated[
        float,
        Field(
            strict=True,
            gt=0,
            le=MAX_TIMEOUT_SECONDS,
            description="For warming and probing together.",
        ),
    ] = 60.0
    evict_old: Annotated[
        bool,
        Field(
            strict=True,
            description="Evict versions that no alias points at any more, once they are idle.",
        ),
    ] = False

    @model_validator(mode="after")
    def _check_preparation(self) -> Self:
        if self.probe and self.warm is False:
            raise ValueError("a probe brings the version into memory: leave warm out")
        return self

    def preparation(self) -> Preparation:
        return Preparation(self.warm, self.probe, self.timeout_seconds, self.evict_old)


class AliasPut(PreparationBody):
    """Either one version, or several with weights.

    Omit `expected_version` to move the alias in any case; null means that it must not exist yet.
    `expected_revision` is stricter: it also compares changes of weights.
    """

    version: VersionNumber | None = None
    weights: Annotated[list[Weight], Field(min_length=1, max_length=MAX_SPLIT)] | None = None
    expected_version: VersionNumber | None = None
    expected_revision: VersionNumber | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.version is None) == (self.weights is None):
            raise ValueError("give either version or weights")
        if len(self.by_number()) < len(self.weights or [None]):
            raise ValueError("each version may have one weight only")
        return self

    def by_number(self) -> dict[int, int]:
        """Weight by version number."""
        if self.version is not None:
            return {self.version: 1}
        return {each.version: each.weight for each in self.weights or ()}


class AliasRollback(PreparationBody):
    """Target: an earlier revision, a time, or, with neither, the previous state."""

    revision: VersionNumber | None = None
    at: Timestamp | None = None
    expected_version: VersionNumber | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.revision is not None and self.at is not None:
            raise ValueError("give either revision or at")
        return self


class AliasRead(BaseModel):
    """State of an alias, valid from `valid_from` to `valid_to`.

    `version` is the one with the largest weight.
    """

    adapter: str
    alias: str
    reference: str
    version: int
    weights: list[WeightRead]
    revision: int
    valid_from: datetime
    valid_to: datetime | None
    moved_by: str
    reason: str | None


class AliasList(BaseModel):
    items: list[AliasRead]


class AliasPage(BaseModel):
    items: list[AliasRead]
    next_page_token: str | None
