"""Model list (`GET /v1/models`) in OpenAI's shape: base models, adapters, served names, by page.

The list of 100,000 adapters has 16 MB: it is sent while it is read, and others take turns with it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from engine.gateway.openai_errors import openai_error
from engine.gateway.unknown_model import as_model_error
from engine.ports import Resolver
from registry.auth.caller import current_caller
from registry.auth.visibility import Reader, reader_of
from registry.catalog.types import PublishedVersion, ServedReference
from registry.errors import InvalidReference, RegistryError
from registry.http.problems import route_path
from registry.ingest.upload_service import UPLOAD
from registry.references import AdapterReference, parse_reference
from registry.service import RegistryService

MODELS = "/v1/models"
PAGE = 500
MAX_LIMIT = 1000

Card = Mapping[str, Any]
"""A model, as it is listed."""

ReadReferences = Callable[
    [AdapterReference | None, int, Reader | None], Awaitable[Sequence[ServedReference]]
]
"""The servable references after one, so many at most, that a reader sees."""


FindVersion = Callable[[str, int], Awaitable[PublishedVersion]]
"""The version of this adapter and number."""


class ServedNames(Protocol):
    async def served(
        self, after: str, limit: int, reader: Reader | None
    ) -> Sequence[ServedReference]: ...

    async def has(self, name: str, reader: Reader | None) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins: after so many base models, a reference, a served name.

    `reference` None: before the first; `name` None: all references come before.
    """

    base: int = 0
    reference: AdapterReference | None = None
    name: str | None = None


class ModelList:
    """The models that the caller can use, all of them or one."""

    def __init__(
        self,
        read_references: ReadReferences,
        names: ServedNames,
        resolver: Resolver,
        find_version: FindVersion,
    ) -> None:
        self._find_version = find_version
        self._read_references = read_references
        self._names = names
        self._resolver = resolver

    async def show(self, base: Sequence[Card], request: Request) -> Response:
        """The response to `GET /v1/models` or `/v1/models/ID`."""
        path = route_path(request.scope)
        if path.startswith(f"{MODELS}/"):
            return await self.show_one(base, path.removeprefix(f"{MODELS}/"))
        return await self.show_all(base, request.query_params)

    async def show_one(self, base: Sequence[Card], model: str) -> Response:
        """The one of this id: any text that a request may have as `model`."""
        for card in base:
            if card["id"] == model:
                return JSONResponse(card)
        try:
            version = await self._resolver.resolve(model)
            found = await self._find_version(version.adapter, version.number)
        except RegistryError as error:
            return _refusal(as_model_error(error, model), "model")
        served = ServedReference(model, found.version.source)
        return JSONResponse(_card(base[0], served))

    async def show_all(self, base: Sequence[Card], query: QueryParams) -> Response:
        """All; with `limit` or `after` (an id) one page and `has_more`, as OpenAI's lists."""
        reader = reader_of(current_caller())
        limit = query.get("limit", str(MAX_LIMIT))
        if not (limit.isdecimal() and len(limit) <= 9 and 1 <= int(limit) <= MAX_LIMIT):
            return _error(400, "invalid_request", f"limit is 1 to {MAX_LIMIT}", "limit")
        try:
            if "limit" in query or "after" in query:
                place = await self._place(base, query.get("after"), reader)
                return JSONResponse(await self._page(base, place, int(limit), reader))
            first = await self._read_references(None, PAGE, reader)
        except RegistryError as error:
            return _refusal(error, "after" if isinstance(error, InvalidReference) else None)
        return StreamingResponse(self._stream(base, first, reader), media_type="application/json")

    async def _place(
        self, base: Sequence[Card], after: str | None, reader: Reader | None
    ) -> _Place:
        """Raises InvalidReference, DatabaseUnavailable."""
        if after is None:
            return _Place()
        names = [str(card["id"]) for card in base]
        if after in names:
            return _Place(names.index(after) + 1)
        if await self._names.has(after, reader):
            return _Place(len(base), name=after)
        return _Place(len(base), _cursor(after))

    async def _page(
        self, base: Sequence[Card], place: _Place, limit: int, reader: Reader | None
    ) -> dict[str, Any]:
        """Raises DatabaseUnavailable."""
        shown = [*base[place.base :]]
        if place.name is None and len(shown) <= limit:
            room = limit - len(shown) + 1
            references = await self._read_references(place.reference, room, reader)
            shown += [_card(base[0], reference) for reference in references]
        if len(shown) <= limit:
            room = limit - len(shown) + 1
            names = await self._names.served(place.name or "", room, reader)
            shown += [_card(base[0], name) for name in names]
        page = shown[:limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(shown) > limit,
        }

    async def _stream(
        self, base: Sequence[Card], first: Sequence[ServedReference], reader: Reader | None
    ) -> AsyncIterator[str]:
        yield '{"object":"list","data":[' + ",".join(map(_to_json, base))
        references = first
        while references:
            yield "".join("," + _to_json(_card(base[0], each)) for each in references)
            if len(references) < PAGE:
                break
            after = parse_reference(references[-1].reference)
            references = await self._read_references(after, PAGE, reader)
        name = ""
        while names := await self._names.served(name, PAGE, reader):
            yield "".join("," + _to_json(_card(base[0], each)) for each in names)
            if len(names) < PAGE:
                break
            name = names[-1].reference
        yield "]}"


def model_list(service: RegistryService, resolver: Resolver) -> ModelList:
    """Of what the registry has."""
    catalog = service.catalog
    return ModelList(catalog.served_references, service.names, resolver, catalog.version)


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


def _refusal(error: RegistryError, param: str | None) -> JSONResponse:
    return _error(error.status, error.code, error.detail, param, error.retry_after_seconds)


def _error(
    status: int, code: str, detail: str, param: str | None, retry_after_seconds: int | None = None
) -> JSONResponse:
    headers = None if retry_after_seconds is None else {"retry-after": str(retry_after_seconds)}
    return JSONResponse(openai_error(status, code, detail, param=param), status, headers)
