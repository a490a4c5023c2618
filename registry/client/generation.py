"""`client.generate`: plain text in, plain text out. For the OpenAI API, use its own client."""

from collections.abc import Sequence
from typing import TypeVar

from registry.client.answer import Answer
from registry.client.calls import Group, composed, read
from registry.client.errors import ApiError, NoAnswer
from registry.client.steps import Flow, Request, given

S_co = TypeVar("S_co", covariant=True)

READY_SECONDS = 2.0


class Usage(Answer):
    """In tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Generation(Answer):
    """One text per prompt."""

    text: list[str]
    usage: Usage


class Serving(Group[S_co]):
    """What is asked of the engine itself."""

    @composed
    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> Flow[Generation]:
        """Complete one prompt, or several, with the base model or an adapter's reference."""
        body = given(
            prompt=prompt,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
        )
        reply = yield Request("POST", "/generate", body=body)
        return read(Generation, reply.content)

    @composed
    def is_ready(self) -> Flow[bool]:
        """Whether the server takes requests; one that is not there yet is not ready."""
        try:
            yield Request("GET", "/readyz", patience_seconds=READY_SECONDS)
        except (ApiError, NoAnswer):
            return False
        return True
