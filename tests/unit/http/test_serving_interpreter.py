"""Interpreter of a process that serves: short turns and rare collections while any server runs."""

import gc
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from engine.bootstrap import interpreter
from engine.bootstrap.interpreter import (
    OBJECTS_PER_COLLECTION,
    THREAD_TURN_SECONDS,
    serving_interpreter,
)

OWN_TURN_SECONDS = 0.005
OWN_THRESHOLDS = (700, 10, 10)
RUNNING = 256
OBJECTS_OF_ONE = 130  # while it runs


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter as before its first server: one of other tests may run in this process."""
    found = sys.getswitchinterval(), gc.get_threshold()
    monkeypatch.setattr(interpreter, "_before", [])
    sys.setswitchinterval(OWN_TURN_SECONDS)
    gc.set_threshold(*OWN_THRESHOLDS)
    yield
    sys.setswitchinterval(found[0])
    gc.set_threshold(*found[1])


def test_the_last_server_to_stop_gives_the_interpreter_its_own_settings_back() -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(serving_interpreter())
    second.enter_context(serving_interpreter())
    first.close()
    assert sys.getswitchinterval() <= THREAD_TURN_SECONDS, "the second serves still"
    assert gc.get_threshold()[0] >= OBJECTS_PER_COLLECTION
    second.close()
    assert sys.getswitchinterval() == OWN_TURN_SECONDS
    assert gc.get_threshold() == OWN_THRESHOLDS


def test_requests_that_begin_together_start_no_collection() -> None:
    assert _collections_of_requests() > 0, "with Python's own threshold they do"
    with serving_interpreter():
        assert _collections_of_requests() == 0


def test_a_collector_that_is_off_stays_off() -> None:
    gc.set_threshold(0, 10, 10)
    with serving_interpreter():
        assert gc.get_threshold()[0] == 0


def _collections_of_requests() -> int:
    begun: list[int] = []

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            begun.append(info["generation"])

    gc.collect()
    gc.callbacks.append(count)
    try:
        running: list[list[dict[str, int]]] = [
            [{} for _ in range(OBJECTS_OF_ONE)] for _ in range(RUNNING)
        ]
        assert len(running) == RUNNING
    finally:
        gc.callbacks.remove(count)
    return len(begun)
