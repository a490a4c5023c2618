"""Model list (`GET /v1/models`) in OpenAI's shape: base models, then adapters, page by page.

The list of 100,000 adapters has 16 MB: it is sent while it is read, and others take turns with it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response, StreamingResponse

from engine.gateway.openai_errors import openai_error
from registry.auth.caller import current_caller
from registry.auth.visibility import Reader, reader_of
from registry.catalog.types import ServedReference
from registry.errors import InvalidReference, RegistryError
from registry.ingest.upload_service import UPLOAD
from registry.references import AdapterReference, parse_reference

PAGE = 500
MAX_LIMIT = 1000

Card = Mapping[str, Any]
"""A model, as it is listed."""

ReadReferences = Callable[
    [AdapterReference | None, int, Reader | None], Awaitable[Sequence[ServedReference]]
]
"""The servable references after one, so many at most, that a reader sees."""


async def list_models(query: QueryParams, base: Sequence[Card], read: ReadReferences) -> Response:
    """All of them; with `limit` or `after` (an id) one page and `has_more`, as OpenAI's lists."""
    reader = reader_of(current_caller())
    limit = query.get("limit", str(MAX_LIMIT))
    if not (limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        return _error(400, "invalid_request", f"limit is 1 to {MAX_LIMIT}", "limit")
    try:
        if "limit" in query or "after" in query:
            page = await _page(base, query.get("after"), int(limit), read, reader)
            return JSONResponse(page)
        first = await read(None, PAGE, reader)
    except RegistryError as error:
        param = "after" if isinstance(error, InvalidReference) else None
        return _error(error.status, error.code, error.detail, param, error.retry_after_seconds)
    return StreamingResponse(_stream(base, first, read, reader), media_type="application/json")


async def _page(
    base: Sequence[Card],
    after: str | None,
    limit: int,
    read: ReadReferences,
    reader: Reader | None,
) -> dict[str, Any]:
    """Raises InvalidReference, DatabaseUnavailable."""
    names = [str(card["id"]) for card in base]
    cursor = None if after is None or after in names else _cursor(after)
    left = [] if cursor is not None else base[names.index(after) + 1 if after is not None else 0 :]
    shown = [*left[:limit]]
    room = limit - len(shown)
    references = await read(cursor, room + 1, reader)
    shown += [_card(base[0], reference) for reference in references[:room]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(left) > limit or len(references) > room,
    }


async def _stream(
    base: Sequence[Card],
    first: Sequence[ServedReference],
    read: ReadReferences,
    reader: Reader | None,
) -> AsyncIterator[str]:
    yield '{"object":"list","data":[' + ",".join(map(_to_json, base))
    references = first
    while references:
        yield "".join("," + _to_json(_card(base[0], reference)) for reference in references)
        if len(references) < PAGE:
            break
        references = await read(parse_reference(references[-1].reference), PAGE, reader)
    yield "]}"


def _cursor(after: str) -> AdapterReference:
    """Raises InvalidReference."""
    reference = parse_reference(after)
    if reference.version is not None:
        raise InvalidReference("after is the id of a listed model: no version is listed")
    return reference


def _card(base: Card, served: ServedReference) -> dict[str, Any]:
    """`root`: the folder or URL that it was registered from, as vLLM says where it loads from."""
    root = served.reference if served.source == UPLOAD else served.source
    return {**base, "id": served.reference, "root": root, "parent": base["id"]}


def _to_json(card: Card) -> str:
    return json.dumps(card, separators=(",", ":"))


def _error(
    status: int, code: str, detail: str, param: str | None, retry_after_seconds: int | None = None
) -> JSONResponse:
    headers = None if retry_after_seconds is None else {"retry-after": str(retry_after_seconds)}
    return JSONResponse(openai_error(status, code, detail, param=param), status, headers)
