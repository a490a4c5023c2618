"""Validation in plain words: nothing of pydantic's own wording reaches a user."""

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from registry.validation import explain


class Inner(BaseModel, extra="forbid"):
    """An object."""

    needed: int


def refuse(value: str) -> str:
    raise ValueError("it is not so")


CASES: list[tuple[Any, object, str]] = [
    (Inner, {}, "is missing"),
    (Inner, {"needed": 1, "more": 2}, "is not known here"),
    (Inner, [], "must be an object with keys and values"),
    (int, "x", "must be a whole number"),
    (int, 1.5, "must be a whole number"),
    (int, [], "must be a whole number"),
    (float, "x", "must be a number"),
    (bool, "x", "must be true or false"),
    (str, 1, "must be text"),
    (tuple[str, ...], "x", "must be a list"),
    (list[str], {}, "must be a list"),
    (dict[str, int], [], "must be an object with keys and values"),
    (Literal["gpu", "host"], "vram", "must be 'gpu' or 'host'"),
    (AwareDatetime, "yesterday", "must be a time, such as 2026-11-17T14:05Z"),
    (AwareDatetime, "2026-11-17T14:05", "must have a time zone, such as 2026-11-17T14:05Z"),
    (Annotated[int, Field(ge=1)], 0, "must be at least 1"),
    (Annotated[int, Field(gt=1)], 1, "must be more than 1"),
    (Annotated[int, Field(le=1)], 2, "must be at most 1"),
    (Annotated[str, Field(max_length=2)], "abc", "must have at most 2 characters"),
    (Annotated[list[int], Field(min_length=1)], [], "must have at least 1 entries"),
    (Annotated[str, AfterValidator(refuse)], "x", "it is not so"),
]


@pytest.mark.parametrize(("kind", "value", "message"), CASES)
def test_a_wrong_value_is_explained(kind: Any, value: object, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    said = [explain(problem) for problem in refused.value.errors()]
    assert message in said
    assert not [
        each for each in said if re.search(r"Input should|Field required|Value error", each)
    ]
