"""The wheel outside the checkout: its light install asks servers, its full one runs the demo."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.docs.test_demo_command import Demo, free_port
from tests.support.installed_wheel import (
    ROOT,
    Environment,
    build,
    clean_environment,
    install,
    share_all_packages,
    share_plain_packages,
)

pytestmark = [pytest.mark.servers, pytest.mark.demo]

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = install(wheel, tmp_path_factory.mktemp("light") / "venv")
    share_plain_packages(made)
    return made


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = install(wheel, tmp_path_factory.mktemp("full") / "venv")
    share_all_packages(made)
    return made


@pytest.fixture
def demo(full: Environment, tmp_path: Path) -> Iterator[Demo]:
    output, port = tmp_path / "output.txt", free_port()
    folder = tmp_path / "empty"
    folder.mkdir()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [full.adaptry, "demo", f"--port={port}"],
            cwd=folder,
            env=clean_environment(),
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    running = Demo(process, output, port, folder)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def run(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *arguments],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_plain_install_has_the_client_and_no_server(light: Environment, tmp_path: Path) -> None:
    program = "import sys; import adaptry.client; print(adaptry.client.__file__)"
    done = run(light.python, "-c", program, cwd=tmp_path)
    assert done.stdout.startswith(str(light.folder)), done.stderr
    for module in ("sqlalchemy", "torch", "vllm", "fastapi"):
        assert run(light.python, "-c", f"import {module}", cwd=tmp_path).returncode == 1
    asked = run(light.adaptry, "adapter", "list", "--server", NOBODY, cwd=tmp_path)
    assert "no answer from" in asked.stderr


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("db upgrade", "[server]"),
        ("key create me --scope admin --database sqlite:///keys.db", "[server]"),
        ("serve some/model", "[cpu]"),
        ("demo", "[cpu]"),
    ],
)
def test_what_needs_an_extra_names_it_in_one_line(
    command: str, extra: str, light: Environment, tmp_path: Path
) -> None:
    done = run(light.adaptry, *command.split(), cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("adaptry: ")
    assert extra in line
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def test_the_plain_install_has_all_commands_but_the_servers(
    light: Environment, tmp_path: Path
) -> None:
    asks = ("adapter", "base", "cache", "events", "grafana", "job", "key", "manifest", "tenant")
    for group in (*asks, "webhook", "db"):
        done = run(light.adaptry, group, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    sized = run(light.adaptry, "size", "--adapters", "2", "--rate", "1", cwd=tmp_path)
    assert "adaptry serve MODEL" in sized.stdout, sized.stderr
    exported = run(light.adaptry, "grafana", "export", "dashboards", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    for file in ("grafana/dashboards/cache.json", "grafana/rules/cache.yml"):
        assert (tmp_path / "dashboards" / file).read_bytes() == (ROOT / file).read_bytes()
    (runbook,) = set(re.findall("runbook: (.+)#", (tmp_path / "dashboards" / file).read_text()))
    assert "## AdaptryThrash" in (tmp_path / "dashboards" / runbook).read_text()
    again = run(light.adaptry, "grafana", "export", "dashboards", cwd=tmp_path)
    assert "--replace" in again.stderr


def test_a_database_is_migrated_outside_the_checkout(full: Environment, tmp_path: Path) -> None:
    done = run(full.adaptry, "db", "upgrade", cwd=tmp_path)
    assert done.stdout.startswith("up to date: "), done.stderr
    assert (tmp_path / ".adaptry" / "registry.db").stat().st_size > 0


def test_the_demo_runs_in_an_empty_folder(demo: Demo) -> None:
    demo.wait_until_serving()
    asked = httpx.post(
        f"http://127.0.0.1:{demo.port}/v1/completions",
        json={"model": "upper", "prompt": "hello=", "max_tokens": 16, "temperature": 0},
        trust_env=False,
        timeout=60,
    )
    assert json.loads(asked.text)["choices"][0]["text"] == "HELLO"
    console = httpx.get(f"http://127.0.0.1:{demo.port}/console/", trust_env=False, timeout=60)
    assert console.status_code == 200
    assert str(ROOT) not in demo.text().replace(str(demo.state), "")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert [path.name for path in demo.state.iterdir()] == [".adaptry"]
