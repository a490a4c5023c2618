"""Calls of a store's files, by Python's own audit events: who makes them, and a disk that hangs."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_watching: list["StoreCalls"] = []


class StoreCalls:
    """`in_loop`: what the thread that watches did itself, which is that of the event loop.

    While it is not to answer, calls of other threads wait. `Path.stat` has no event: it is wrapped.
    """

    def __init__(self, root: Path) -> None:
        self.in_loop: list[str] = []
        self.in_threads = 0
        self.hung = threading.Semaphore(0)  # how many calls have begun to wait
        self._root = str(root)
        self._loop = threading.get_ident()
        self._answers = threading.Event()
        self._answers.set()
        self._hangs: Callable[[str], bool] = lambda event: True

    def hang(self, which: Callable[[str], bool] = lambda event: True) -> None:
        """Calls of these events are not answered until `answer`."""
        self._hangs = which
        self._answers.clear()

    def answer(self) -> None:
        self._answers.set()

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not any(self._is_of_store(each) for each in arguments):
            return
        if threading.get_ident() == self._loop:
            self.in_loop.append(f"{event} {arguments}")
            return
        self.in_threads += 1
        if self._hangs(event) and not self._answers.is_set():
            self.hung.release()
            assert self._answers.wait(60)

    def _is_of_store(self, argument: Any) -> bool:
        if isinstance(argument, int) or not isinstance(argument, str | os.PathLike):
            return False
        return f"{os.fspath(argument)}/".startswith(f"{self._root}/")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and (event == "open" or event.startswith(("os.", "shutil."))):
        for each in _watching:
            each.see(event, arguments)


_hook_is_added = threading.Event()


@contextmanager
def store_calls(root: Path) -> Iterator[StoreCalls]:
    """Watch what is done to the files below this folder. To be entered in the loop's thread."""
    if not _hook_is_added.is_set():
        sys.addaudithook(_hook)  # it can't be removed
        _hook_is_added.set()
    calls, stat = StoreCalls(root), os.stat

    def watched_stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        calls.see("os.stat", (path,))
        return stat(path, *arguments, **options)

    _watching.append(calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", watched_stat)
        try:
            yield calls
        finally:
            calls.answer()
            _watching.remove(calls)
