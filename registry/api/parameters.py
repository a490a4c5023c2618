"""Query and path parameters shared by routes."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, Field

from registry.catalog.field_types import Name, Tag, Text
from registry.catalog.overview_order import InMemory
from registry.database.pagination import MAX_LIMIT, MAX_NUMBER
from registry.models import VersionState
from registry.references import ADAPTER_NAME_PATTERN, MAX_NAME
from registry.search.repository import words

MAX_WORDS = 12
"""Of a search: each costs a look at all rows that it may mean."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows per page.")]
PageToken = Annotated[str | None, Query(max_length=256, description="From the previous page.")]
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]

QueryTags = Annotated[list[Tag], Query(alias="tag", max_length=16, description="All of them.")]


def _check_words(text: str) -> str:
    if len(set(words(text))) > MAX_WORDS:
        raise ValueError(f"at most {MAX_WORDS} different words")
    return text


QueryText = Annotated[
    Annotated[Text, AfterValidator(_check_words)] | None,
    Query(
        alias="text",
        max_length=256,
        description=f"Prefixes of words, all of them: at most {MAX_WORDS}.",
    ),
]
QueryOwner = Annotated[Name | None, Query(alias="owner")]
QueryModules = Annotated[
    list[Name], Query(alias="target_module", max_length=16, description="All of them.")
]
QueryStates = Annotated[
    list[VersionState], Query(alias="state", max_length=8, description="One of them.")
]
QueryBaseModel = Annotated[Text | None, Query(alias="base_model", min_length=1, max_length=1024)]
QueryBase = Annotated[
    Text | None,
    Query(
        alias="base",
        min_length=1,
        max_length=256,
        description="Bound to this base model: its name, with or without the revision.",
    ),
]
QueryRank = Annotated[int | None, Query(ge=1, le=MAX_NUMBER)]
QueryParent = Annotated[
    Name | None, Query(alias="parent", description="Versions made from it, such as `support:2`.")
]
# all of them fit into a request line
_AdapterName = Annotated[str, Field(pattern=f"^{ADAPTER_NAME_PATTERN}$", max_length=MAX_NAME)]
QueryNames = Annotated[
    list[_AdapterName], Query(alias="name", max_length=500, description="One of them.")
]
QueryState = Annotated[VersionState | None, Query(alias="state", description="Of any version.")]
QueryMemory = Annotated[
    InMemory | None, Query(alias="memory", description="In memory now, or pinned there.")
]
QueryAsOf = Annotated[
    str | None, Query(max_length=64, description="Of another part of the table: the same order.")
]
QueryTenant = Annotated[Name | None, Query(alias="tenant", description="Its own adapters.")]
_FEW_WORDS = r"^\s*(\S+\s+){0,11}\S*\s*$"  # each costs three searches, over all adapters
QueryParts = Annotated[
    Text | None,
    Query(
        alias="text",
        max_length=256,
        pattern=_FEW_WORDS,
        description="At most 12 words. Each: a part of the name, or the beginning of a word "
        "elsewhere.",
    ),
]
Offset = Annotated[int, Query(ge=0, le=MAX_NUMBER, description="Rows to leave out.")]
