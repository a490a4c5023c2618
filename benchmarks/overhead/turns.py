"""Overhead in turns of the event loop: how many a request takes until the engine is asked.

    python -m benchmarks.overhead.turns

A turn lasts as long as all that is ready takes: with many streams, the sending of all their tokens.
So each turn delays the first token, whatever it computes. Counted as `benchmarks.overhead` counts
calls: both applications are in one process, each over its own echo engine. Threads answer
immediately: where the loop has gone on meanwhile, each costs a turn more, or two, in which it has
nothing to do.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import print_table
from benchmarks.overhead.applications import Application, ours, prepare, stock
from benchmarks.overhead.connection import Connection, uvicorn_config

_TEXT = "x" * 64
_CHAT = [{"role": "user", "content": _TEXT}]
BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": _TEXT, "max_tokens": 2},
    "/v1/chat/completions": {"messages": _CHAT, "max_tokens": 2},
    "/v1/messages": {"messages": _CHAT, "max_tokens": 2},
    "/v1/responses": {"input": _TEXT, "max_output_tokens": 2},
}
_REQUESTS = 5


class CountingLoop(asyncio.SelectorEventLoop):
    """asyncio's own, with the number of its turns."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]  # not public


def _run_at_once(work: Callable[..., Any], *args: Any, **options: Any) -> "Future[Any]":
    """In place of a thread of the tokenizer."""
    done: Future[Any] = Future()
    done.set_result(work(*args, **options))
    return done


async def turns_before_engine(application: Application) -> dict[str, int]:
    """By route, the fewest of several requests: work in the background has turns too."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    client = application.app.state.engine_client
    core = client.engine_core
    client.renderer._executor.submit = _run_at_once
    connection = Connection(application, uvicorn_config(application))
    added: list[int] = []
    core.when_added = lambda: added.append(loop.turns)
    found: dict[str, int] = {}
    for path, body in BODIES.items():
        turns: list[int] = []
        for _ in range(_REQUESTS):
            began = loop.turns
            await connection.ask(path, {"model": "a0", **body})
            turns.append(added.pop() - began)
        found[path] = min(turns)
    return found


def count_turns(folder: Path, *, keys: bool = False) -> dict[str, dict[str, int]]:
    """Of stock and of ours."""
    arguments = prepare(folder, 1)

    async def count(side: AbstractAsyncContextManager[Application]) -> dict[str, int]:
        async with side as application:
            return await turns_before_engine(application)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        adapters = folder / "adapters"
        return {
            "stock": runner.run(count(stock(arguments, adapters, keys=keys))),
            "ours": runner.run(count(ours(arguments, adapters, folder / "state", keys=keys))),
        }


def main() -> None:
    stay_offline()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    with tempfile.TemporaryDirectory() as folder:
        counted = count_turns(Path(folder))
    print_table(
        [{"route": path, **{side: counted[side][path] for side in counted}} for path in BODIES]
    )


if __name__ == "__main__":
    main()
