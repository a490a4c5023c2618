"""`client.generate`: plain text in, plain text out. For the OpenAI API, use its own client."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from adaptry.client.errors import ApiError, NoAnswer
from adaptry.client.fanout_event import FanoutEvent
from adaptry.client.models import FanoutResponse, GenerateResponse
from adaptry.client.transport.operations import Resource, ending_stream, operation, request_flow
from adaptry.client.transport.requests import Parameters, Request, RequestFlow, without_none

T_co = TypeVar("T_co", covariant=True)

READY_SECONDS = 2.0


class Generation(Resource[T_co]):
    """Methods of the client itself: generation and health."""

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
    ) -> Parameters:
        """Complete one prompt, or several, with the base model or an adapter's reference."""
        body = without_none(
            prompt=prompt,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
        )
        return Parameters(body=body)

    @operation("POST", "/v1/fanout", FanoutResponse)
    def fanout(
        self,
        models: Sequence[str | Mapping[str, Any]],
        *,
        prompt: str | Sequence[int] | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Parameters:
        """Ask several models over one prompt or conversation, which is computed once.

        A model is a name, or a mapping of `model`, `suffix` (or `messages`), `name` and options of
        its own. `options`: others of a completion, for each model.
        """
        return _fanout(models, prompt, messages, max_tokens, temperature, options)

    @ending_stream("POST", "/v1/fanout", FanoutEvent)
    def fanout_stream(
        self,
        models: Sequence[str | Mapping[str, Any]],
        *,
        prompt: str | Sequence[int] | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Parameters:
        """Ask several models as `fanout` does, and get each one's chunks as they come.

        Each event has the `name` of its model: first one with its `status`, then its chunks, or an
        `error`. To close the iterator ends the work. Raises NoAnswer if the stream breaks off.
        """
        streams = {**(options or {}), "stream": True}
        return _fanout(models, prompt, messages, max_tokens, temperature, streams)

    @request_flow("GET", "/readyz")
    def is_ready(self, *, without: Sequence[str] = ()) -> RequestFlow[bool]:
        """Whether the server accepts requests; False too if it does not respond.

        `without`: parts that don't decide, such as `store`.
        """
        return (yield from _succeeds("/readyz", without))

    @request_flow("GET", "/healthz")
    def is_alive(self) -> RequestFlow[bool]:
        """Whether the server's process responds, ready or not."""
        return (yield from _succeeds("/healthz"))


def _fanout(
    models: Sequence[str | Mapping[str, Any]],
    prompt: str | Sequence[int] | None,
    messages: Sequence[Mapping[str, Any]] | None,
    max_tokens: int | None,
    temperature: float | None,
    options: Mapping[str, Any] | None,
) -> Parameters:
    body = without_none(
        models=list(models),
        prompt=prompt,
        messages=messages,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    return Parameters(body={**body, **(options or {})})


def _succeeds(path: str, without: Sequence[str] = ()) -> RequestFlow[bool]:
    try:
        yield Request(
            "GET",
            path,
            query={"without": without} if without else {},
            timeout_seconds=READY_SECONDS,
        )
    except (ApiError, NoAnswer):
        return False
    return True
