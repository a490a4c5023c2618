"""`adaptry demo --replicas 2` answers as the demo of one does: the same checks, on two engines."""

import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.docs.test_demo_command import (
    Demo,
    free_port,
    start,
)
from tests.support.servers.adaptry_serve import START_SECONDS, is_engine

pytestmark = [pytest.mark.servers("fleet"), pytest.mark.demo, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = start(tmp_path_factory.mktemp("demo"), free_port(), "--replicas=2")
    try:
        running.wait_until_serving()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(60)


def family_of(demo: Demo) -> list[psutil.Process]:
    return psutil.Process(demo.process.pid).children(recursive=True)


def test_ctrl_c_ends_all_of_it(demo: Demo) -> None:
    deadline = time.monotonic() + START_SECONDS
    while len(engines := [each for each in family_of(demo) if is_engine(each)]) < 2:
        assert time.monotonic() < deadline, engines  # the first one that is there answers already
        time.sleep(0.5)
    family = family_of(demo)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert not psutil.wait_procs(family, timeout=20)[1], "left running"
