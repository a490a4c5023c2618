"""Adapters that were pushed or fetched answer on the real engine, as those of a local folder do."""

import io
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from adaptry.cli import main
from demo.tasks import HELD_OUT_WORDS, TASKS, prompt_for
from engine.bootstrap.interpreter import THREAD_TURN_SECONDS

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
WORD = HELD_OUT_WORDS[0]


def answer(server: Any, model: str) -> str:
    response = server.complete(model, prompt_for(WORD))
    assert response.status_code == 200, response.text
    assert response.headers["x-adaptry-version"] == f"{model}:1"
    text: str = response.json()["choices"][0]["text"]
    return text


def expected(task: str) -> str:
    return TASKS[task].answer(WORD)


def test_an_adapter_that_was_pushed_answers(
    server: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "upper"
    elsewhere.mkdir()
    for file in (ROOT / "demo" / "adapters" / "upper").iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    url = ["--server", server.base_url]
    assert main(["adapter", "push", "pushed-upper", str(elsewhere), *url]) == 0
    assert capsys.readouterr().out.startswith("pushed-upper:1  registered, rank ")
    assert answer(server, "pushed-upper") == expected("upper")
    assert main(["job", "list", "--adapter", "pushed-upper", *url]) == 0
    assert "succeeded" in capsys.readouterr().out


def test_an_archive_that_was_sent_answers(server: Any) -> None:
    """Through vLLM's own application, its middlewares and our gateway."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(ROOT / "demo" / "adapters" / "reverse", arcname="reverse")
    response = server.client.post(
        "/api/v1/adapters/sent-reverse/versions",
        files=[("files", ("reverse.tar.gz", buffer.getvalue()))],
    )
    assert response.status_code == 201, response.text
    assert response.json()["reference"] == "sent-reverse:1"
    assert answer(server, "sent-reverse") == expected("reverse")


def test_a_source_that_is_not_allowed_is_a_problem(server: Any) -> None:
    response = server.client.post(
        "/api/v1/adapters/bot/versions", json={"source": "http://127.0.0.1:1/x"}
    )
    assert (response.status_code, response.json()["code"]) == (403, "source_not_allowed")


def test_threads_of_registrations_give_the_interpreter_back_soon(server: Any) -> None:
    assert server.client.get("/health").is_success
    assert sys.getswitchinterval() <= THREAD_TURN_SECONDS, "this server runs in this process"
