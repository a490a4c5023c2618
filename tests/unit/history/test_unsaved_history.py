"""Unsaved history: packed for one reader at a time, on a replica too."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from engine.history.recorder import HistoryRecorder
from fleet.replica.operations import Operations


async def test_rows_are_packed_for_one_reader_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes as much of the interpreter as all requests."""
    running, most, counting = 0, 0, threading.Lock()

    def pack() -> str:
        nonlocal running, most
        with counting:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with counting:
            running -= 1
        return "row"

    store: Any = SimpleNamespace(server="here", keep_seconds=60)
    recorder = HistoryRecorder(store, on_drop=lambda records: None)
    monkeypatch.setattr(recorder, "unsaved", lambda: [pack, pack])
    replica: Any = object.__new__(Operations)
    replica._recorder = recorder
    found = await asyncio.gather(*(replica.unsaved_history() for _ in range(6)))
    assert found == [["row", "row"]] * 6
    assert most == 1
    assert await recorder.unsaved_rows("elsewhere") == []
