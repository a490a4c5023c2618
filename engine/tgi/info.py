"""Server info (`GET /info`) as clients of TGI and LoRAX read it: the model and its lengths."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from registry.version import adaptry_version

INFO = "/info"


class ServerInfo(BaseModel):
    """What of TGI's answer has a meaning here. Without a value: it is not known."""

    model_id: Annotated[str, Field(description="As it was named when the server was started.")]
    model_sha: Annotated[str | None, Field(description="Its revision, if one was given.")] = None
    model_dtype: str | None = None
    model_device_type: str | None = None
    model_pipeline_tag: str | None = None
    max_input_tokens: Annotated[int, Field(description="Of a prompt that leaves room for a token.")]
    max_input_length: Annotated[int, Field(description="The same, as LoRAX and TGI 1 call it.")]
    max_total_tokens: Annotated[int, Field(description="Of a prompt and its answer.")]
    max_client_batch_size: Annotated[int, Field(description="Prompts of one request.")] = 1
    router: str = "adaptry"
    version: Annotated[str, Field(description="Adaptry's.")]
    sha: str | None = None
    docker_label: str | None = None


def server_info(
    model: str,
    max_tokens: int,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    generates: bool = True,
) -> ServerInfo:
    """`max_tokens`: the context's length."""
    return ServerInfo(
        model_id=model,
        model_sha=revision,
        model_dtype=dtype,
        model_device_type=device,
        model_pipeline_tag="text-generation" if generates else None,
        max_input_tokens=max_tokens - 1,
        max_input_length=max_tokens - 1,
        max_total_tokens=max_tokens,
        version=adaptry_version(),
    )


def create_info_router(info: Callable[[], ServerInfo]) -> APIRouter:
    router = APIRouter(tags=["generate"])

    @router.get(INFO)
    async def show_info() -> ServerInfo:
        """Tell the model and its lengths, as TGI and LoRAX do."""
        return info()

    return router
