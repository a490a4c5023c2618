"""Turns of threads: short while any server of the process runs."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from engine.bootstrap import background
from engine.bootstrap.background import THREAD_TURN_SECONDS, short_thread_turns

OWN_TURN_SECONDS = 0.005


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter as before its first server: one of other tests may run in this process."""
    found = sys.getswitchinterval()
    monkeypatch.setattr(background, "_before", [])
    sys.setswitchinterval(OWN_TURN_SECONDS)
    yield
    sys.setswitchinterval(found)


@pytest.mark.usefixtures("no_server")
def test_the_last_server_to_stop_gives_the_interpreter_its_own_turn_back() -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(short_thread_turns())
    second.enter_context(short_thread_turns())
    first.close()
    assert sys.getswitchinterval() <= THREAD_TURN_SECONDS, "the second serves still"
    second.close()
    assert sys.getswitchinterval() == OWN_TURN_SECONDS
