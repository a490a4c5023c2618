"""`POST /generate`: one plain prompt in, plain text out, over vLLM's own completion service."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from vllm.entrypoints.openai.completion.protocol import CompletionRequest, CompletionResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from engine.errors import GenerationUnsupported
from engine.gateway.body_validation import first_error_validator
from engine.gateway.openai_errors import openai_error
from engine.gateway.request_body import UNPARSED, find_body


class GenerateRequest(BaseModel):
    """Sampling parameters that are omitted take the model's own defaults."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | list[str]
    model: Annotated[str | None, Field(description="Base model, or a reference to an adapter.")] = (
        None
    )
    max_tokens: Annotated[int, Field(ge=1)] = 16
    temperature: Annotated[float | None, Field(ge=0)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    stop: str | list[str] | None = None
    seed: int | None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateResponse(BaseModel):
    """One text per prompt."""

    text: list[str]
    usage: Usage


router = APIRouter(tags=["generate"])

_VALIDATOR = first_error_validator(GenerateRequest.__pydantic_core_schema__)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": GenerateRequest.model_json_schema()}},
    }
}


@router.post("/generate", response_model=GenerateResponse, openapi_extra=_BODY)
async def generate(raw_request: Request) -> Any:
    """Complete one prompt, or several, with the base model or an adapter.

    The body is read as JSON whatever its content type says, so that a bare `curl -d` works.
    """
    answer = await _complete(raw_request=raw_request)
    return Response() if answer is None else answer  # None: the client has left


@with_cancellation  # type: ignore[untyped-decorator]  # vLLM's
async def _complete(raw_request: Request) -> Any:
    try:
        body = await _read_body(raw_request)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
    completion = CompletionRequest(**body.model_dump(exclude_none=True))
    service = getattr(raw_request.app.state, "openai_serving_completion", None)
    if service is None:  # of a pooling engine
        why = GenerationUnsupported()
        return JSONResponse(openai_error(why.status, why.code, why.detail), why.status)
    response = await service.create_completion(completion, raw_request)
    if not isinstance(response, CompletionResponse):
        return JSONResponse(response.model_dump(), status_code=response.error.code)
    usage = response.usage
    return GenerateResponse(
        text=[choice.text for choice in response.choices],
        usage=Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens or 0,
            total_tokens=usage.total_tokens,
        ),
    )


async def _read_body(request: Request) -> GenerateRequest:
    """Raises ValidationError."""
    body = find_body(request.scope)
    if body is None or body.parsed is UNPARSED:
        content: GenerateRequest = _VALIDATOR.validate_json(await request.body())
    else:
        content = _VALIDATOR.validate_python(body.parsed)
    return content
