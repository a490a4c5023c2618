"""`adaptry demo --replicas 2` answers as the demo of one does: the same checks, on two engines."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.e2e.docs.test_demo_command import (
    Demo,
    arguments,
    free_port,
    start,
    test_each_printed_curl_gets_the_printed_answer,  # noqa: F401  # the same, here
    test_every_other_printed_command_works_too,  # noqa: F401
    test_it_ends_with_a_promotion_and_a_rollback_that_can_be_pasted,  # noqa: F401
    test_the_printed_pages_are_there,  # noqa: F401
)
from tests.support.servers.adaptry_serve import START_SECONDS, is_engine
from tests.support.workers.demo_server import ForkedDemo
from tests.support.workers.ray_workers import RayWorkers, parent_of_zygotes

pytestmark = [pytest.mark.servers("fleet"), pytest.mark.demo]


@dataclass
class Replicas(Demo):
    """Its server, Ray's workers and the engines are forks."""

    forked: ForkedDemo

    def family(self) -> list[psutil.Process]:
        executed = psutil.Process(self.process.pid).children(recursive=True)
        return [*executed, *self.forked.server_processes()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder, port = tmp_path_factory.mktemp("demo"), free_port()
    forked = ForkedDemo(folder, RayWorkers(folder, parent_of_zygotes()))
    command = forked.command(*arguments(folder, port), "--replicas=2")
    running = Replicas(**vars(start(folder, port, command)), forked=forked)
    try:
        running.wait_until_serving()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(60)


def test_ctrl_c_ends_all_of_it(demo: Replicas) -> None:
    deadline = time.monotonic() + 2 * START_SECONDS  # on a machine that does much else
    while len(engines := [each for each in demo.family() if is_engine(each)]) < 2:
        assert time.monotonic() < deadline, engines  # the first one that is there answers already
        time.sleep(0.5)
    family = demo.family()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert not psutil.wait_procs(family, timeout=20)[1], "left running"
