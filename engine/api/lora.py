"""LoRA routes: vLLM's own API to load and unload adapters, and SageMaker's, for their clients."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError

from engine.api.lora_errors import LoraRefusal, as_vllm_refuses, refused_body
from engine.operations.named_adapters import NamedAdapters
from registry.auth.caller import actor_name, current_caller

MAX_SOURCE_LENGTH = 4096
ALIAS_HEADER = "x-amzn-sagemaker-adapter-alias"

_PATH = (
    "A folder below `--source-root`, also as `file://`; a repository of the Hub (`ORG/REPO`, "
    "`hf://ORG/REPO@REVISION`); or any other URL that `ADAPTRY_SOURCE_URLS` allows."
)

Path = Annotated[str, Field(max_length=MAX_SOURCE_LENGTH, description=_PATH)]


class LoadLora(BaseModel):
    """As in vLLM; its other fields are accepted and ignored."""

    lora_name: str
    lora_path: Path
    load_inplace: Annotated[
        bool, Field(description="If the name is served: register this and make it the default.")
    ] = False


class UnloadLora(BaseModel):
    lora_name: str


class AddAdapter(BaseModel):
    """As SageMaker sends it; `preload` and `pin` are accepted and ignored, as by vLLM."""

    name: Annotated[str, Field(min_length=1)]
    src: Annotated[Path, Field(min_length=1)]
    load_inplace: bool = False


class VllmErrorRoute(APIRoute):
    """Renders refusals as vLLM does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except LoraRefusal as refusal:
                return refusal.response()
            except RequestValidationError as error:
                return refused_body(error).response()

        return handler


def create_lora_router(adapters: NamedAdapters) -> APIRouter:
    router = APIRouter(tags=["lora"], route_class=VllmErrorRoute)

    async def load(name: str, path: str, in_place: bool) -> None:
        with as_vllm_refuses(name, path):
            caller = current_caller()
            named = await adapters.find(name, caller)
            await adapters.load(
                named, path, in_place=in_place, actor=actor_name(), within=caller.tenant
            )

    async def unload(name: str) -> None:
        with as_vllm_refuses(name):
            named = await adapters.find(name, current_caller())
            await adapters.unload(named, actor=actor_name())

    @router.post("/v1/load_lora_adapter", response_class=PlainTextResponse)
    async def load_lora_adapter(body: LoadLora) -> str:
        """Register the adapter at a path under a name, and load it into host memory.

        A name that no adapter can have, such as `Org/Adapter-7B`, becomes a served name of one.
        A fetch that takes longer than the route waits (60 s) answers 503 with the number of its
        job, which goes on: the same request, sent again, waits for it.
        """
        await load(body.lora_name, body.lora_path, body.load_inplace)
        return f"Success: LoRA adapter '{body.lora_name}' added successfully."

    @router.post("/v1/unload_lora_adapter", response_class=PlainTextResponse)
    async def unload_lora_adapter(body: UnloadLora) -> str:
        """Retire all versions of an adapter, and evict them after their last request."""
        await unload(body.lora_name)
        return f"Success: LoRA adapter '{body.lora_name}' removed successfully."

    @router.post("/adapters", response_class=PlainTextResponse, openapi_extra=_body_of(AddAdapter))
    async def add_adapter(request: Request) -> str:
        """SageMaker's form of `load_lora_adapter`; without a body, the query has its fields."""
        body = await _parse_body(request)
        await load(body.name, body.src, body.load_inplace)
        return f"Adapter {_name_for(request, body.name)} registered"

    @router.delete("/adapters/{name:path}", response_class=PlainTextResponse)
    async def remove_adapter(name: str, request: Request) -> str:
        """SageMaker's form of `unload_lora_adapter`."""
        await unload(name)
        return f"Adapter {_name_for(request, name)} unregistered"

    return router


async def _parse_body(request: Request) -> AddAdapter:
    """Raises RequestValidationError."""
    content = await request.body()
    try:
        given = json.loads(content) if content else dict(request.query_params)
        return AddAdapter.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    except (ValueError, RecursionError):
        problem = {"type": "json_invalid", "loc": ("body",), "msg": "no JSON", "input": None}
        raise RequestValidationError([problem]) from None


def _name_for(request: Request, name: str) -> str:
    return request.headers.get(ALIAS_HEADER) or name


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"schema": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}
