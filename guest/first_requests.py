"""First requests of a name: what vLLM's engine refuses then, with its reason.

vLLM (0.26 to 0.33) logs why its engine does not take an adapter that a resolver has found, and
answers 400 without it. Its table of adapters is asked through `resolve_with_reason`.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from vllm.lora.request import LoRARequest

Resolve = Callable[[str], Awaitable[Any]]


@dataclass(slots=True)
class Attempt:
    """To load what a resolver has found. `error`: why vLLM's engine does not take it."""

    reference: str | None = None
    error: Exception | None = None


_current: ContextVar[Attempt | None] = ContextVar("adaptry_first_request", default=None)


def note_found(reference: str) -> None:
    """For the request of this task, if it is its name's first."""
    if (attempt := _current.get()) is not None:
        attempt.reference = reference


async def resolve_with_reason(resolve: Resolve, name: str) -> tuple[Any, Attempt]:
    """What vLLM's method returns, and what it met."""
    attempt = Attempt()
    before = _current.set(attempt)
    try:
        return await resolve(name), attempt
    finally:
        _current.reset(before)


class NotingEngine:
    """vLLM's engine client as its table of adapters uses it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def add_lora(self, request: LoRARequest) -> Any:
        try:
            return await self._engine.add_lora(request)
        except Exception as error:
            attempt = _current.get()
            if attempt is not None and attempt.reference == request.lora_name:
                attempt.error = error
            raise
