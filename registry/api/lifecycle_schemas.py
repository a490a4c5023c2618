"""Request and response schemas of states and garbage collection."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from registry.catalog.field_types import Body, Name, Reason, Text, VersionNumber, check_distinct
from registry.catalog.schemas import VersionRead
from registry.lifecycle.garbage_collector import Retention
from registry.models import VersionState

MAX_PURGES = 1000
_DEFAULTS = Retention()


class ReasonBody(Body):
    reason: Reason | None = None


class RetireBody(ReasonBody):
    """Aliases that point at it are moved in the same transaction, or, with `force`, left as they
    are, so that requests for them are refused. Without either, aliases prevent the retirement."""

    move_aliases_to: VersionNumber | None = None
    force: bool = False


class QuarantineBody(Body):
    reason: Reason
    code: Annotated[Text, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = "operator"


class PurgeRead(BaseModel):
    """`freed_bytes` and `pending_bytes` are 0 if another version has the same files.

    `pending_bytes` are not freed yet: the store did not delete them in time, or a client that
    registers the same files may need them. They go later, unless a version needs them then.
    """

    version: VersionRead
    freed_bytes: int
    pending_bytes: int


class GarbageBody(Body):
    """Versions in one of `states` are purged, unless a rule keeps them. See `Retention`."""

    dry_run: Annotated[bool, Field(strict=True, description="Only list what would be purged.")] = (
        True
    )
    states: Annotated[
        frozenset[VersionState],
        BeforeValidator(check_distinct),
        Field(min_length=1, examples=[["retired", "rejected"]]),
    ] = _DEFAULTS.states
    keep_last: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = _DEFAULTS.keep_last
    rollback_window_days: Annotated[float, Field(strict=True, ge=0, le=36_500)] = (
        _DEFAULTS.rollback_window / timedelta(days=1)
    )
    adapter: Name | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_PURGES)] = MAX_PURGES


class GarbageItem(BaseModel):
    reference: str
    state: str
    size_bytes: int


class GarbageRead(BaseModel):
    """`kept` counts kept versions by rule: `aliased`, `last`, `rollback_window`.

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
