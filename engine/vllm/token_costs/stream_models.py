"""Stream models: what vLLM builds for each token, without a check that is meant for requests.

vLLM's models (0.26 to 0.33) log the unknown fields of what they are built from. Its own answers
have none, since vLLM names their fields itself, but three models are built for each token, and each
of them spends a third of its time on that check.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionStreamResponse
from vllm.entrypoints.openai.completion.protocol import CompletionStreamResponse

STREAMED: tuple[type[BaseModel], ...] = (CompletionStreamResponse, ChatCompletionStreamResponse)
_CHECK = "__log_extra_fields__"


def build_streams_unchecked() -> None:
    """In this process, from now on. A vLLM without the check is left as it is."""
    for streamed in STREAMED:
        models = models_within(streamed)
        checked = [model for model in models if _checks(model).pop(_CHECK, None) is not None]
        if checked:
            for model in models:  # a model holds the validators of those within it
                model.model_rebuild(force=True)


def models_within(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models of its fields, the innermost first, and then itself."""
    found: dict[type[BaseModel], None] = {}
    _find(model, found, set())
    return list(found)


def _find(
    model: type[BaseModel], found: dict[type[BaseModel], None], seen: set[type[BaseModel]]
) -> None:
    seen.add(model)
    for field in model.model_fields.values():
        for part in _models(field.annotation):
            if part not in seen:
                _find(part, found, seen)
    found[model] = None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _checks(model: type[BaseModel]) -> dict[str, Any]:
    return model.__pydantic_decorators__.model_validators
