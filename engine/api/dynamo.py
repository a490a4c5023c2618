"""Dynamo's routes to list, load and unload adapters, in its words."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from hashlib import sha256
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from engine.api.lora import MAX_SOURCE_LENGTH
from engine.errors import AlreadyLoaded, EngineError
from engine.operations.lora_names import LoraName
from registry.auth.caller import Caller, actor_name, current_caller
from registry.auth.visibility import Reader, reader_of
from registry.catalog.types import ServedReference
from registry.errors import RegistryError
from registry.redaction import redact
from registry.references import AdapterReference, parse_reference
from registry.validation import explain

_PAGE = 500

ReadReferences = Callable[
    [AdapterReference | None, int, Reader | None], Awaitable[Sequence[ServedReference]]
]


ReadNames = Callable[[str, int, Reader | None], Awaitable[Sequence[ServedReference]]]


class LoadedAdapters(Protocol):
    async def find(self, text: str, caller: Caller) -> LoraName: ...
    async def load(
        self, named: LoraName, source: str, /, *, in_place: bool, actor: str, within: str | None
    ) -> None: ...
    async def unload(self, named: LoraName, *, actor: str) -> None: ...


class LoraSource(BaseModel):
    uri: Annotated[
        str,
        Field(max_length=MAX_SOURCE_LENGTH, description="As `lora_path` of `load_lora_adapter`."),
    ]


class LoadDynamoLora(BaseModel):
    lora_name: str
    source: LoraSource


class DynamoLora(BaseModel):
    """`lora_id`: a number made of the name, as Dynamo's is."""

    status: str = "success"
    message: str
    lora_name: str
    lora_id: int


class DynamoLoras(BaseModel):
    status: str = "success"
    loras: Annotated[dict[str, int], Field(description="The number of each name.")]
    count: int


class DynamoRoute(APIRoute):
    """Renders errors as Dynamo does, with our status and stable code."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except (EngineError, RegistryError) as error:
                return _refuse(error.status, error.code, error.detail, error.retry_after_seconds)
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"])
                return _refuse(422, "invalid_request", f"{place} {explain(first)}")

        return handler


def create_dynamo_router(
    adapters: LoadedAdapters, read: ReadReferences, read_names: ReadNames
) -> APIRouter:
    """`read`: the servable references that a reader sees; `read_names`: the served names."""
    router = APIRouter(tags=["lora"], route_class=DynamoRoute)

    @router.get("/v1/loras")
    async def list_loras() -> DynamoLoras:
        """Dynamo's list of the adapters that answer by their name alone."""
        reader = reader_of(current_caller())
        loras: dict[str, int] = {}
        after: AdapterReference | None = None
        while references := await read(after, _PAGE, reader):
            after = parse_reference(references[-1].reference)
            plain = [each.reference for each in references if "@" not in each.reference]
            loras.update({name: lora_id(name) for name in plain})
            if len(references) < _PAGE:
                break
        name = ""
        while names := await read_names(name, _PAGE, reader):
            name = names[-1].reference
            loras.update({each.reference: lora_id(each.reference) for each in names})
            if len(names) < _PAGE:
                break
        return DynamoLoras(loras=loras, count=len(loras))

    @router.post("/v1/loras")
    async def load_lora(body: LoadDynamoLora) -> DynamoLora:
        """Dynamo's form of `load_lora_adapter`; what is loaded already is no error."""
        name, caller = body.lora_name, current_caller()
        named = await adapters.find(name, caller)
        try:
            await adapters.load(
                named, body.source.uri, in_place=False, actor=actor_name(), within=caller.tenant
            )
        except AlreadyLoaded:
            return _lora(name, "already loaded")
        return _lora(name, "loaded successfully")

    @router.delete("/v1/loras/{lora_name:path}")
    async def unload_lora(lora_name: str) -> DynamoLora:
        """Dynamo's form of `unload_lora_adapter`."""
        named = await adapters.find(lora_name, current_caller())
        await adapters.unload(named, actor=actor_name())
        return _lora(lora_name, "unloaded successfully")

    return router


def lora_id(name: str) -> int:
    """31 bits, as Dynamo's; never 0, which is the base model there."""
    return int.from_bytes(sha256(name.encode()).digest()[:4]) & 0x7FFFFFFF or 1


def _lora(name: str, what: str) -> DynamoLora:
    message = f"LoRA adapter '{name}' {what}"
    return DynamoLora(message=message, lora_name=name, lora_id=lora_id(name))


def _refuse(
    status: int, code: str, message: str, retry_after_seconds: int | None = None
) -> JSONResponse:
    headers = None if retry_after_seconds is None else {"retry-after": str(retry_after_seconds)}
    content = {"status": "error", "message": redact(message), "code": code}
    return JSONResponse(content, status, headers)
