"""LoRA routes: vLLM's own API to load and unload adapters, for clients that use it."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from engine.errors import EngineError
from engine.gateway.openai_errors import openai_error
from engine.operations.named_adapters import NamedAdapters
from registry.auth.caller import actor_name, current_caller
from registry.errors import RegistryError
from registry.references import check_name

MAX_SOURCE_LENGTH = 4096


class LoadLora(BaseModel):
    """As in vLLM; its other fields are accepted and ignored."""

    lora_name: str
    lora_path: Annotated[
        str, Field(max_length=MAX_SOURCE_LENGTH, description="A folder below `--source-root`.")
    ]
    load_inplace: Annotated[
        bool, Field(description="If the name is served: register this and make it the default.")
    ] = False


class UnloadLora(BaseModel):
    lora_name: str


class OpenAIErrorRoute(APIRoute):
    """Renders errors in OpenAI's format, which vLLM's clients read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except (EngineError, RegistryError) as error:
                seconds = error.retry_after_seconds
                return JSONResponse(
                    openai_error(error.status, error.code, error.detail),
                    status_code=error.status,
                    headers=None if seconds is None else {"retry-after": str(seconds)},
                )

        return handler


def create_lora_router(adapters: NamedAdapters) -> APIRouter:
    router = APIRouter(tags=["lora"], route_class=OpenAIErrorRoute)

    @router.post("/v1/load_lora_adapter", response_class=PlainTextResponse)
    async def load_lora_adapter(body: LoadLora) -> str:
        """Register the adapter in a folder under a name, and load it into host memory."""
        caller = current_caller()
        caller.check_owns(check_name(body.lora_name))
        await adapters.load(
            body.lora_name,
            body.lora_path,
            in_place=body.load_inplace,
            actor=actor_name(),
            within=caller.tenant,
        )
        return f"Success: LoRA adapter '{body.lora_name}' added successfully."

    @router.post("/v1/unload_lora_adapter", response_class=PlainTextResponse)
    async def unload_lora_adapter(body: UnloadLora) -> str:
        """Retire all versions of an adapter, and evict them after their last request."""
        current_caller().check_owns(check_name(body.lora_name))
        await adapters.unload(body.lora_name, actor=actor_name())
        return f"Success: LoRA adapter '{body.lora_name}' removed successfully."

    return router
