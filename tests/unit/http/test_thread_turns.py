"""Turns of threads: short while any server of the process runs."""

import sys
from contextlib import ExitStack

from engine.bootstrap.background import THREAD_TURN_SECONDS, short_thread_turns


def test_the_last_server_to_stop_gives_the_interpreter_its_own_turn_back() -> None:
    before = sys.getswitchinterval()
    first, second = ExitStack(), ExitStack()
    first.enter_context(short_thread_turns())
    second.enter_context(short_thread_turns())
    first.close()
    assert sys.getswitchinterval() <= THREAD_TURN_SECONDS < before, "the second serves still"
    second.close()
    assert sys.getswitchinterval() == before
