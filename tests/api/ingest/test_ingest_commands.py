"""`adaptry adapter add`, `push` and `adaptry job` against a running registry."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from adaptry.cli import main
from registry.inspection.base_model import BaseModel
from tests.support.servers.registry_in_loop import Registry, running_registry
from tests.support.servers.web import Handler, web_server

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = "adapter_model.safetensors"

AdapterMaker = Callable[..., Path]


@pytest.fixture
async def registry(
    database_url: str, tmp_path: Path, base_model: BaseModel
) -> AsyncIterator[Registry]:
    async with running_registry(database_url, tmp_path, base_model, max_direct_bytes=0) as running:
        yield running


class Command:
    """Runs commands of the client beside the server's loop."""

    def __init__(self, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
        url = registry.http.base_url
        self.server = f"http://{url.host}:{url.port}"
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        code = await asyncio.to_thread(main, [*arguments, "--server", self.server])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def command(registry: Registry, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(registry, capsys)


async def test_add_follows_the_job_to_its_version(
    command: Command, make_adapter: AdapterMaker
) -> None:
    source = str(make_adapter("a"))
    code, out, err = await command("adapter", "add", "bot", source, "--description", "no")
    assert (code, err) == (0, "")
    first, note = out.splitlines()
    assert re.fullmatch(r"bot:1  registered, rank 4, [\d.]+ B", first)
    assert re.fullmatch(r"note: no engine was asked.* \[engine_not_asked\]", note)
    code, out, _ = await command("adapter", "add", "bot", source)
    assert (code, out.split(",")[0]) == (0, "bot:1  already there")


async def test_add_takes_urls(command: Command, make_adapter: AdapterMaker) -> None:
    with web_server() as web:
        for file in make_adapter("a").iterdir():
            web.file(f"/a/{file.name}", file.read_bytes())
        code, out, _ = await command("adapter", "add", "bot", f"{web.url}/a", "--json")
    assert code == 0
    assert json.loads(out)["source"] == f"{web.url}/a"


async def test_a_job_that_fails_is_one_line_with_its_code(
    command: Command, make_adapter: AdapterMaker
) -> None:
    code, out, err = await command("adapter", "add", "bot", str(make_adapter("a", rank=17)))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("adaptry: ")
    assert err.endswith("[rank_too_large]\n")


async def test_push_sends_a_folder_or_an_archive(
    command: Command, registry: Registry, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "not a source root"
    make_adapter("a").rename(elsewhere)
    code, out, err = await command("adapter", "push", "bot", str(elsewhere), "--description", "no")
    assert (code, err) == (0, "")
    assert out.startswith("bot:1  registered")
    assert (await registry.http.get("/adapters/bot")).json()["description"] == "no"
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(elsewhere, arcname="x")
    code, out, err = await command("adapter", "push", "bot", str(packed), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["reference"] == "bot:1"


async def test_push_sends_what_the_adapter_was_trained_with(
    command: Command, registry: Registry, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "not a source root"
    make_adapter("a").rename(elsewhere)
    (elsewhere / "chat_template.jinja").write_text("a template")
    (elsewhere / "tokenizer.json").write_text(" " * 200_000)
    code, _, err = await command("adapter", "push", "bot", str(elsewhere))
    assert (code, err) == (0, "")
    assert (await registry.http.get("/adapters/bot/versions/1")).json()["has_chat_template"]


async def test_push_says_what_is_missing(command: Command, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        code, out, err = await command("adapter", "push", "bot", str(path))
        assert (code, out) == (2, "")
        assert f"there is no {path}/adapter_config.json" in err


async def test_jobs_are_listed_shown_and_cancelled(
    command: Command, registry: Registry, make_adapter: AdapterMaker
) -> None:
    await command("adapter", "add", "bot", str(make_adapter("a")))
    await command("adapter", "add", "other", str(make_adapter("b", rank=17)))
    code, out, _ = await command("job", "list")
    assert code == 0
    first, second = out.splitlines()[1:]
    assert re.fullmatch(r"\s*2\s+other\s+failed\s.*rank_too_large", first)
    assert re.fullmatch(r"\s*1\s+bot\s+succeeded\s.*bot:1", second)
    code, out, _ = await command("job", "list", "--state", "failed", "--json")
    assert [job["id"] for job in json.loads(out)] == [2]
    code, out, _ = await command("job", "list", "--limit", "1", "--json")
    assert [job["id"] for job in json.loads(out)] == [2]
    code, out, _ = await command("job", "show", "2")
    assert "rank_too_large" in out
    code, out, err = await command("job", "cancel", "2")
    assert (code, out) == (1, "")
    assert "[job_finished]" in err
    code, _, err = await command("job", "show", "99")
    assert (code, "[unknown_job]" in err) == (1, True)


def hanging(web: Any, name: str) -> tuple[threading.Event, threading.Event]:
    asked, leave = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        handler.send(200, b"w" * 2048, {"Content-Length": str(5 * 2**20)})
        asked.set()
        leave.wait(30)

    web.answers[name] = answer
    return asked, leave


async def test_a_person_sees_a_bar_and_may_leave(
    command: Command, registry: Registry, make_adapter: AdapterMaker
) -> None:
    """On a terminal of its own; the interrupt leaves the job to the server."""
    with web_server() as web:
        for file in make_adapter("a").iterdir():
            web.file(f"/a/{file.name}", file.read_bytes())
        asked, leave = hanging(web, f"/a/{WEIGHTS}")
        here, there = pty.openpty()
        arguments = ["adapter", "add", "bot", f"{web.url}/a", "--server", command.server]
        client = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "adaptry", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=there,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(there)
        assert await asyncio.to_thread(asked.wait, 20)
        seen = await asyncio.to_thread(read_until, here, "5.0 MiB")
        assert "job 1: fetching" in seen
        client.send_signal(signal.SIGINT)
        seen = await asyncio.to_thread(read_until, here, "adaptry job cancel 1")
        out, _ = await client.communicate()
        assert (client.returncode, out) == (130, b"")
        assert (await registry.job(1))["state"] == "running"
        await command("job", "cancel", "1")
        leave.set()
        assert (await registry.end_of(1))["state"] == "cancelled"
        os.close(here)


def read_until(terminal: int, text: str) -> str:
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen
