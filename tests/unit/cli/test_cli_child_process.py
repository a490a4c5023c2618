"""Child processes always end, and the error shown is the root cause."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adaptry.demo import child_process
from adaptry.demo.child_process import ServerProcess, Stop, last_words
from adaptry.demo.command import stop_on_signals

Start = Callable[[str], ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children: list[ServerProcess] = []

    def started(code: str) -> ServerProcess:
        command = [sys.executable, "-u", "-c", code]
        children.append(ServerProcess(command, tmp_path / "server.log", tmp_path))
        return children[-1]

    yield started
    for child in children:
        child.stop()


def wait_for(child: ServerProcess, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in child.log_text():
        assert time.monotonic() < deadline, child.log_text()
        time.sleep(0.01)


def test_a_child_that_obeys_ends_on_the_first_signal(start: Start) -> None:
    # a script that runs the tests in its background has it ignored, and children inherit that
    obeys = "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    child = start(obeys + "print('up')\ntime.sleep(60)")
    wait_for(child, "up")
    child.stop()
    assert "KeyboardInterrupt" in child.log_text()
    assert child.exit_code() == -signal.SIGINT


def test_a_child_runs_in_its_own_group(start: Start) -> None:
    child = start("import time\ntime.sleep(60)")
    assert os.getpgid(child.pid) == child.pid != os.getpgrp()


def test_a_second_stop_skips_to_the_next_signal(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would come after an hour."""
    gently, *others = child_process.SHUTDOWN
    monkeypatch.setattr(child_process, "SHUTDOWN", ((gently[0], 3600.0), *others))
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    child = start(deaf + "print('up')\ntime.sleep(60)")
    wait_for(child, "up")
    impatience = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with stop_on_signals():
        impatience.start()
        child.stop()
    assert child.exit_code() == -signal.SIGTERM


def test_stopping_a_dead_child_does_nothing(start: Start) -> None:
    child = start("raise SystemExit(3)")
    assert child.wait(10)
    child.stop()
    assert child.exit_code() == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_to_end_a_command_raises_stop(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals(), pytest.raises(Stop):
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("log", "words"),
    [
        pytest.param("", "it logged nothing", id="silent"),
        pytest.param("one\ntwo\n\n", "two", id="no error"),
        pytest.param(
            'Traceback (most recent call last):\n  File "x", line 1\nValueError: bad rank\nbye\n',
            "ValueError: bad rank",
            id="traceback",
        ),
        pytest.param(
            "(EngineCore pid=7) ERROR 11-23 [core.py:1] OSError: no such model\n"
            "RuntimeError: Engine core initialization failed. See root cause above.\n",
            "OSError: no such model",
            id="root cause",
        ),
        pytest.param(
            "INFO starting\nadaptry: --max-loras must be 1 or more\n",
            "adaptry: --max-loras must be 1 or more",
            id="our own line",
        ),
    ],
)
def test_the_last_error_is_the_root_cause(log: str, words: str) -> None:
    assert last_words(log) == words
