"""`adaptry demo` as a newcomer runs it: every command that it prints is run as it stands."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from demo.tasks import TASKS, UPPER_V2
from tests.support.workers.demo_server import ForkedDemo

pytestmark = [pytest.mark.servers, pytest.mark.demo]

ROOT = Path(__file__).parents[3]
START_SECONDS = 480.0
ASK = re.compile(r"^  (curl .+?)   # (.+)$", re.MULTILINE)
STEP = re.compile(r"^  (.+?)   # (.+)$", re.MULTILINE)
COMMAND = re.compile(r"^  ((?:curl|\S+/adaptry) .+?)(?:   # .+)?$", re.MULTILINE)
SERVING = "Ctrl-C stops the server."
LAST_ACT = "A second version"


@dataclass
class Demo:
    """A running `adaptry demo` and everything it has printed."""

    process: subprocess.Popen[bytes]
    output: Path
    port: int
    state: Path

    def text(self) -> str:
        return self.output.read_text()

    def wait_until_serving(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while SERVING not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def arguments(folder: Path, port: int) -> list[str]:
    return [f"--port={port}", f"--state={folder / 'state'}"]


def start(folder: Path, port: int, command: Sequence[str] = ()) -> Demo:
    """`command`: of the demo, if it is not to be executed."""
    output = folder / "output.txt"
    executed = [sys.executable, "-m", "adaptry", "demo", *arguments(folder, port)]
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command or executed,
            cwd=ROOT,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    return Demo(process, output, port, folder / "state")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = start(tmp_path_factory.mktemp("demo"), free_port())
    try:
        running.wait_until_serving()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(60)


def in_a_shell(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_each_printed_curl_gets_the_printed_answer(demo: Demo) -> None:
    asked = ASK.findall(demo.text().partition(LAST_ACT)[0])
    assert len(asked) == len(TASKS) + 1, "and the activated one"
    for curl, expected in asked:
        assert json.loads(in_a_shell(curl))["choices"][0]["text"] == expected


def test_every_other_printed_command_works_too(demo: Demo) -> None:
    commands = COMMAND.findall(demo.text())
    assert len(commands) > len(TASKS)
    answers = {command: in_a_shell(command) for command in commands}
    assert all(answers.values())
    (metrics,) = (text for command, text in answers.items() if "/metrics" in command)
    assert "adaptry_cache_lookups_total" in metrics
    (cache,) = (text for command, text in answers.items() if "cache show" in command)
    assert re.search(r"^gpu +upper:1 .* gpu ", cache, re.MULTILINE), "upper is pinned"


def test_it_ends_with_a_promotion_and_a_rollback_that_can_be_pasted(demo: Demo) -> None:
    steps = STEP.findall(demo.text().partition(LAST_ACT)[2])
    said = [outcome for _, outcome in steps]
    first, second = TASKS["upper"].answer("hello"), UPPER_V2.answer("hello")
    moves = [f"upper@prod -> {number}" for number in (1, 2, 1)]
    assert said == ["upper:2", moves[0], first, moves[1], second, moves[2], first]
    for command, outcome in steps:
        answer = in_a_shell(command)
        if command.startswith("curl"):
            answer = json.loads(answer)["choices"][0]["text"]
            assert answer == outcome
        else:
            assert answer.startswith(outcome), answer
    default = f"http://127.0.0.1:{demo.port}/api/v1/adapters/upper/aliases/default"
    assert httpx.get(default, trust_env=False, timeout=60).json()["version"] == 1, (
        "the default is untouched"
    )


def test_the_printed_pages_are_there(demo: Demo) -> None:
    page = httpx.get(f"http://127.0.0.1:{demo.port}/docs", trust_env=False, timeout=60)
    assert page.status_code == 200
    assert "swagger" in page.text.lower()


def test_a_busy_port_is_one_line(demo: Demo, tmp_path: Path) -> None:
    second = start(tmp_path, demo.port)
    assert second.process.wait(60) == 1
    (line,) = second.text().splitlines()
    assert f"port {demo.port}" in line
    assert "--port" in line


def test_ctrl_c_ends_everything_and_the_next_start_reuses_it(demo: Demo) -> None:
    family = psutil.Process(demo.process.pid).children(recursive=True)
    assert family
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert not psutil.wait_procs(family, timeout=10)[1], "left running"
    folder = demo.state.parent
    forked = ForkedDemo(folder).command(*arguments(folder, demo.port))
    again = start(folder, demo.port, forked)
    try:
        again.wait_until_serving()
        assert "0 of them new" in again.text()
        curl, expected = ASK.findall(again.text())[0]
        assert json.loads(in_a_shell(curl))["choices"][0]["text"] == expected
    finally:
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(60) == 0
