"""`client.generate`: plain text in, plain text out. For the OpenAI API, use its own client."""

from collections.abc import Sequence
from typing import TypeVar

from adaptry.client.errors import ApiError, NoAnswer
from adaptry.client.models import GenerateResponse
from adaptry.client.transport.operations import Group, flow, operation
from adaptry.client.transport.requests import Flow, Given, Request, given

S_co = TypeVar("S_co", covariant=True)

READY_SECONDS = 2.0


class Serving(Group[S_co]):
    """What is asked of the engine itself."""

    @operation("POST", "/generate", GenerateResponse)
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
    ) -> Given:
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
        return Given(body=body)

    @flow("GET", "/readyz")
    def is_ready(self) -> Flow[bool]:
        """Whether the server takes requests; one that is not there yet is not ready."""
        return (yield from _succeeds("/readyz"))

    @flow("GET", "/healthz")
    def is_alive(self) -> Flow[bool]:
        """Whether the server's process answers, ready or not."""
        return (yield from _succeeds("/healthz"))


def _succeeds(path: str) -> Flow[bool]:
    try:
        yield Request("GET", path, patience_seconds=READY_SECONDS)
    except (ApiError, NoAnswer):
        return False
    return True
