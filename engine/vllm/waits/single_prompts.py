"""Single prompts: a request with one prompt is rendered in its own task: it has nothing to gather.

vLLM's renderer (0.32) gathers a request's prompts three times: each time it makes a task of every
prompt, and goes on three turns of the event loop later. A turn is long where many answers are
streamed, and those nine came before the first token of nearly every request.
"""

import asyncio
import sys
from collections.abc import Awaitable
from types import ModuleType
from typing import Any

from engine.gateway.request_context import current_request


class _Asyncio(ModuleType):
    """The library, but for one function."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    def gather(*awaited: Awaitable[Any], **options: Any) -> Awaitable[list[Any]]:
        if len(awaited) == 1 and not options and current_request() is not None:
            return _gather_one(awaited[0])
        return asyncio.gather(*awaited, **options)


async def _gather_one(awaited: Awaitable[Any]) -> list[Any]:
    return [await awaited]


def render_single_prompts_at_once(renderer: object) -> None:
    """For requests that came through the gateway. vLLM awaits what it gathers, and does no more."""
    for kind in type(renderer).__mro__:
        names = vars(sys.modules[kind.__module__])
        if "render_cmpl_async" in vars(kind) and names.get("asyncio") is asyncio:
            names["asyncio"] = _Asyncio("asyncio")
