"""Field types of request bodies: storable text, names, tags, bounded JSON."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from registry.catalog.metadata import MAX_TAGS
from registry.redaction import redact_keys

MAX_DEPTH = 16
MAX_DISTINCT = 64
_NUMBER = re.compile(r"[-+.0-9eE]+", re.ASCII)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL stores no NUL, UTF-8 no lone surrogate


class Body(BaseModel):
    """Request body; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


def check_text(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise ValueError("must not hold a NUL or half of a character")
    return text


def check_tag(tag: str) -> str:
    if not tag.isprintable() or any(character in ", " for character in tag):
        raise ValueError("a tag is printable and has no space or comma")
    return tag


def check_json(value: Any, depth: int = 0) -> Any:
    """Check for values that every JSON parser accepts, and for their depth."""
    if depth > MAX_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH}")
    match value:
        case str():
            check_text(value)
        case float() if not math.isfinite(value):
            raise ValueError("must not hold NaN or infinity")
        case list():
            for item in value:
                check_json(item, depth + 1)
        case dict():
            for key, item in value.items():
                check_json(key, depth + 1)
                check_json(item, depth + 1)
    return value


def check_timestamp(value: Any) -> Any:
    """pydantic would accept a number as seconds since 1970."""
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("a date and a time are wanted, such as 2026-11-28T09:30:00Z")
    return value


def check_calendar(value: datetime) -> datetime:
    """At the ends of the calendar a time may have no equivalent in UTC."""
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise ValueError("this time is outside the calendar") from None
    return value


def check_distinct(value: Any) -> Any:
    """pydantic would silently drop duplicates."""
    if not isinstance(value, list):
        return value
    if len(value) > MAX_DISTINCT or any(each in value[:at] for at, each in enumerate(value)):
        raise ValueError(f"each may be named once only, and at most {MAX_DISTINCT}")
    return value


UtcTime = Annotated[AwareDatetime, AfterValidator(check_calendar)]
Timestamp = Annotated[UtcTime, BeforeValidator(check_timestamp)]
Text = Annotated[str, AfterValidator(check_text)]
Prose = Annotated[Text, AfterValidator(redact_keys)]
Reason = Annotated[Prose, Field(max_length=1024, description="Kept with the event.")]
Name = Annotated[Text, Field(min_length=1, max_length=256)]
Reference = Annotated[Text, Field(min_length=1, max_length=256, examples=["support:2"])]
Tag = Annotated[Text, Field(min_length=1, max_length=64), AfterValidator(check_tag)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS)]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=256)], Any], AfterValidator(check_json)
]
VersionNumber = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
