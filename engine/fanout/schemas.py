"""Fan-out schemas: one prompt or conversation, several models, and an answer from each."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

COMPLETIONS = "/v1/completions"
MAX_MODELS = 128

Messages = list[dict[str, Any]]
Prompt = str | list[Annotated[int, Field(ge=0)]]

_OF_THE_FAN_OUT = frozenset({"model", "prompt", "messages", "suffix", "stream", "stream_options"})


class FanoutModel(BaseModel):
    """One model with its own end of the prompt. Further fields are those of a completion."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, description="Base model, or a reference.")]
    name: Annotated[str | None, Field(description="Of its answer; the model's if omitted.")] = None
    suffix: Annotated[Prompt | None, Field(description="Follows the prompt.")] = None
    messages: Annotated[Messages | None, Field(description="Follow the conversation.")] = None

    @property
    def answer_name(self) -> str:
        return self.name or self.model


class FanoutRequest(BaseModel):
    """`prompt` or `messages`. Further fields, such as `max_tokens`, are defaults for each model."""

    model_config = ConfigDict(extra="allow")

    prompt: Prompt | None = None
    messages: Messages | None = None
    models: Annotated[list[str | FanoutModel], Field(min_length=1, max_length=MAX_MODELS)]
    stream: bool = False

    @property
    def targets(self) -> list[FanoutModel]:
        return [FanoutModel(model=m) if isinstance(m, str) else m for m in self.models]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either a prompt or messages")
        names = [target.answer_name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError("two models have one name: give one of them another `name`")
        for target in self.targets:
            self._check_end(target)
        return self

    def _check_end(self, target: FanoutModel) -> None:
        if target.messages is not None and self.messages is None:
            raise ValueError("messages of a model follow messages, not a prompt")
        if target.suffix is not None and type(target.suffix) is not type(self.prompt):
            raise ValueError("a suffix is of the prompt's kind: text or token ids")

    def path(self) -> str:
        """The route that each model is asked on."""
        return COMPLETIONS if self.messages is None else "/v1/chat/completions"

    def body(self, target: FanoutModel) -> dict[str, Any]:
        """What is sent there."""
        own = {**(self.model_extra or {}), **(target.model_extra or {})}
        options = {name: value for name, value in own.items() if name not in _OF_THE_FAN_OUT}
        return {**options, **self._input(target), "model": target.model, "stream": self.stream}

    def _input(self, target: FanoutModel) -> dict[str, Any]:
        if self.messages is not None:
            return {"messages": [*self.messages, *(target.messages or [])]}
        prompt: Any = self.prompt
        return {"prompt": prompt if target.suffix is None else prompt + target.suffix}


def models_of(members: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models that a body names which nothing has checked yet, as objects with a `model`."""
    asked = members.get("models")
    listed = asked[:MAX_MODELS] if isinstance(asked, list) else []
    found = (each if isinstance(each, dict) else {"model": each} for each in listed)
    return [each for each in found if isinstance(each.get("model"), str)]


class FanoutUsage(BaseModel):
    """Summed over all models. `cached_tokens`: of the prompts, found in the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0

    def add(self, usage: dict[str, Any] | None) -> None:
        if usage is None:
            return
        details = usage.get("prompt_tokens_details") or {}
        self.prompt_tokens += usage.get("prompt_tokens") or 0
        self.completion_tokens += usage.get("completion_tokens") or 0
        self.total_tokens += usage.get("total_tokens") or 0
        self.cached_tokens += details.get("cached_tokens") or 0


class FanoutAnswer(BaseModel):
    """Of one model. `answer`: as its own route answers; null where `error` says why there is none.

    `version`: the one that answered, null for the base model. `invocation`: of an activated
    adapter, `found` or `missing`.
    """

    status: int
    version: str | None = None
    invocation: str | None = None
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class FanoutResponse(BaseModel):
    """`answers` by name."""

    answers: dict[str, FanoutAnswer]
    usage: FanoutUsage


class FanoutEvent(BaseModel):
    """Of a stream, for one model: first its `status` and `version`, then each `chunk`, as its own
    route streams it, or an `error`, which ends its part.
    """

    name: str
    status: int | None = None
    version: str | None = None
    invocation: str | None = None
    chunk: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
