"""Threads of imports: a plugin of pytest that notes which test file has started which.

Apart from `threads`, which is imported where pytest is not.
"""

from collections.abc import Generator

import pytest

from tests.support.workers.threads import other_threads


class ThreadsOfImports:
    """Plugin of pytest: which module has started which thread when it was imported."""

    def __init__(self) -> None:
        self._threads: dict[int, tuple[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        before = other_threads()
        try:
            return (yield)
        finally:
            for task, name in other_threads().items():
                if task not in before:
                    self._threads.setdefault(task, (collector.nodeid, name))

    def in_words(self) -> str | None:
        """One line on those that still run; None if there are none."""
        running = other_threads()
        if not running:
            return None
        known = (self._threads.get(task, ("an import", name)) for task, name in running.items())
        return ", ".join(f"{where} has started the thread {name!r}" for where, name in known)
