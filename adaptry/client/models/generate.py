"""Models of the responses of the routes of generate.

Written by `make reference` from docs/openapi.json.
"""

from typing import Any

from adaptry.client.models.response import ResponseModel


class FanoutAnswer(ResponseModel):
    """
    Of one model. `answer`: as its own route answers; null where `error` says why there is none.

    `version`: the one that answered, null for the base model. `invocation`: of an activated
    adapter, `found` or `missing`.
    """

    status: int
    version: str | None = None
    invocation: str | None = None
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class FanoutUsage(ResponseModel):
    """Summed over all models. `cached_tokens`: of the prompts, found in the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


class FanoutResponse(ResponseModel):
    """`answers` by name."""

    answers: dict[str, FanoutAnswer]
    usage: FanoutUsage


class Usage(ResponseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateResponse(ResponseModel):
    """One text per prompt."""

    text: list[str]
    usage: Usage
