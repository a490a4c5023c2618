"""Server with timers around its engine, to measure the time spent before and after it.

    python -m benchmarks.serving.stages MODULE ARGUMENTS…

For each streamed completion one line of JSON goes to the file that `BENCHMARK_STAGES` names: the
milliseconds before and after the engine. Touches uvicorn's `RequestResponseCycle`, and vLLM's
`AsyncLLM.generate` and `AsyncMPClient.add_request_async` (0.26 to 0.32).
"""

import json
import os
import runpy
import sys
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient

from benchmarks.common.servers import STAGES_VARIABLE

TIMED = "/v1/completions"

_times: ContextVar[dict[str, float]] = ContextVar("times")


def _note(what: str) -> None:
    """Record the first time of this stage for the request; nothing outside a request."""
    times = _times.get(None)
    if times is not None:
        times.setdefault(what, time.monotonic())


def _time_http(cycle: Any, lines: Any) -> None:
    run_asgi, send = cycle.run_asgi, cycle.send

    async def timed_run(self: Any, app: Any) -> None:
        if self.scope["path"] == TIMED:
            _times.set({})
            _note("arrived")
        await run_asgi(self, app)

    async def timed_send(self: Any, message: Any) -> None:
        times = _times.get(None)
        if times is None or not message.get("body"):
            await send(self, message)
            return
        is_first = "answered" not in times
        _note("answered")
        await send(self, message)
        if is_first and times.keys() >= {"arrived", "asked", "found"}:
            before, after = times["asked"] - times["arrived"], times["answered"] - times["found"]
            print(json.dumps([before * 1000, after * 1000]), file=lines, flush=True)

    cycle.run_asgi, cycle.send = timed_run, timed_send


def _time_engine(llm: Any, core: Any) -> None:
    generate, add_request = llm.generate, core.add_request_async

    async def timed_generate(self: Any, *inputs: Any, **options: Any) -> AsyncIterator[Any]:
        async for output in generate(self, *inputs, **options):
            _note("found")
            yield output

    async def timed_add(self: Any, request: Any) -> None:
        _note("asked")
        await add_request(self, request)

    llm.generate, core.add_request_async = timed_generate, timed_add


def main() -> None:
    with Path(os.environ[STAGES_VARIABLE]).open("w") as lines:
        _time_http(RequestResponseCycle, lines)
        _time_engine(AsyncLLM, AsyncMPClient)
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
