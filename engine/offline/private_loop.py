"""Private loop: the event loop of a synchronous object, also where another runs, as in a notebook.

The code of a notebook's cell runs within the notebook's loop, which stands still until it returns.
asyncio lets no second loop run in such a thread unless it knows of none.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


class PrivateLoop:
    """Runs only within `run` and `run_between`."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    @property
    def is_running(self) -> bool:
        return self._runner.get_loop().is_running()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Ctrl-C cancels it."""
        with _no_loop_running():
            return self._runner.run(work)

    def run_between(self, work: Coroutine[Any, Any, Any]) -> Any:
        """As between two steps of an engine: it takes less than `run`."""
        with _no_loop_running():
            return self._runner.get_loop().run_until_complete(work)

    def create_task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """It goes on whenever the loop runs."""
        return self._runner.get_loop().create_task(work)

    def close(self) -> None:
        with _no_loop_running():
            self._runner.close()


@contextmanager
def _no_loop_running() -> Iterator[None]:
    """As far as asyncio knows, in this thread."""
    other = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(other)
