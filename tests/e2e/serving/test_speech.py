"""Speech on a real engine: transcriptions by adapters, their leases, their callers.

The model reads letters from the audio (`tests/support/vllm/reading_llama.py`); all else is vLLM's.
"""

import base64
import io
import json
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from demo.tasks import TASKS
from tests.support.servers.adaptry_serve import ROOT, ServedDemo
from tests.support.servers.adaptry_serve_with_keys import create_root_key
from tests.support.vllm.reading_serve import ARCHITECTURE, MODULE, SAMPLES_PER_SECOND

pytestmark = [pytest.mark.servers("forked")]

BASE = "tiny-text-tools"
START = {"type": "input_audio_buffer.commit"}
END = {"type": "input_audio_buffer.commit", "final": True}


class Reading(ServedDemo):
    def command(self, port: int) -> list[str]:
        command = super().command(port)
        command[command.index("adaptry")] = MODULE
        return command


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    server = Reading(tmp_path_factory.mktemp("speech"), require_keys="true")
    server.arguments = ("--hf-overrides", json.dumps({"architectures": [ARCHITECTURE]}))
    server.variables |= {"PYTHONPATH": str(ROOT), "VLLM_SERVER_DEV_MODE": "1"}  # it can be paused
    root = create_root_key(server.folder)
    server.start()
    server.client.headers["authorization"] = f"Bearer {root}"
    try:
        for name in ("upper", "reverse"):
            server.register(name)
        yield server
    finally:
        server.stop()
        server.client.close()


@contextmanager
def session(server: Reading, model: str | None = None) -> Iterator[ClientConnection]:
    headers = {"authorization": server.client.headers["authorization"]}
    url = server.url("/v1/realtime").replace("http", "ws")
    with connect(url, additional_headers=headers) as socket:
        assert event(socket)["type"] == "session.created"
        if model is not None:
            send(socket, {"type": "session.update", "model": model})
        yield socket


def send(socket: ClientConnection, sent: dict[str, Any]) -> None:
    socket.send(json.dumps(sent))


def event(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(socket.recv(timeout=60))
    return found


def spell(socket: ClientConnection, word: str) -> None:
    letters = np.array([ord(letter) for letter in word], np.int16).tobytes()
    audio = base64.b64encode(letters).decode()
    send(socket, {"type": "input_audio_buffer.append", "audio": audio})


def transcribe(socket: ClientConnection, word: str) -> list[dict[str, Any]]:
    send(socket, START)
    spell(socket, word)
    send(socket, END)
    return until_end(socket)


def until_end(socket: ClientConnection) -> list[dict[str, Any]]:
    events = [event(socket)]
    while events[-1]["type"] == "transcription.delta":
        events.append(event(socket))
    return events


def leases(server: Reading) -> dict[str, int]:
    return {each["reference"]: each["leases"] for each in server.cache()["gpu"] if each["leases"]}


@pytest.mark.parametrize("name", ["upper", "reverse"])
def test_a_transcription_is_the_adapters(server: Reading, name: str) -> None:
    before = server.total("adaptry_requests_total", adapter=name, outcome="completed")
    tokens = server.total("adaptry_tokens_total", adapter=name, kind="generation")
    with session(server, name) as socket:
        events = transcribe(socket, "hello")
    assert events[-1]["type"] == "transcription.done", events
    assert events[-1]["text"] == TASKS[name].answer("hello")
    assert events[0]["headers"]["x-adaptry-version"] == f"{name}:1"
    assert events[-1]["usage"]["completion_tokens"] > 0
    server.wait_until(lambda: leases(server) == {}, 20)
    after = server.total("adaptry_requests_total", adapter=name, outcome="completed")
    assert after == before + 1
    assert server.total("adaptry_tokens_total", adapter=name, kind="generation") == tokens + 6


def test_one_session_changes_between_adapters_and_the_base_model(server: Reading) -> None:
    said = []
    with session(server) as socket:
        for model in ("upper", BASE, "reverse", "upper:1"):
            send(socket, {"type": "session.update", "model": model})
            events = transcribe(socket, "hello")
            version = events[0].get("headers", {}).get("x-adaptry-version")
            said.append((events[-1]["text"], version))
    assert said == [
        ("HELLO", "upper:1"),
        ("hello", None),
        ("olleh", "reverse:1"),
        ("HELLO", "upper:1"),
    ]


def test_the_adapter_is_leased_while_its_client_speaks_and_no_longer(server: Reading) -> None:
    with session(server, "upper") as socket:
        assert leases(server) == {}
        send(socket, START)
        server.wait_until(lambda: leases(server) == {"upper:1": 1}, 20)
        spell(socket, "hello")
        text = ""
        while text != "HELLO":
            text += event(socket)["delta"]
        assert leases(server) == {"upper:1": 1}
        send(socket, END)
        assert until_end(socket)[-1]["text"] == "HELLO"
        server.wait_until(lambda: leases(server) == {}, 20)


def test_a_client_that_leaves_gives_its_lease_back(server: Reading) -> None:
    with session(server, "upper") as socket:
        send(socket, START)
        server.wait_until(lambda: leases(server) == {"upper:1": 1}, 20)
    server.wait_until(lambda: leases(server) == {}, 20)


@pytest.mark.parametrize("has_spoken", [False, True])
def test_force_ends_a_transcription_that_waits_for_audio(server: Reading, has_spoken: bool) -> None:
    with session(server, "upper") as socket:
        send(socket, START)
        if has_spoken:
            spell(socket, "hello")
            assert event(socket)["type"] == "transcription.delta"
        server.wait_until(lambda: leases(server) == {"upper:1": 1}, 20)
        body = {"reference": "upper:1", "force": True}
        assert server.client.post("/api/v1/cache/evict", json=body).status_code == 200
        last = until_end(socket)[-1]
        assert (last["type"], last.get("code")) == ("error", "adapter_forced_out"), last
        assert leases(server) == {}
        send(socket, {"type": "session.update", "model": "upper"})
        assert transcribe(socket, "again")[-1]["text"] == "AGAIN"


@pytest.mark.parametrize("model", ["upper", BASE])
@pytest.mark.parametrize("has_spoken", [False, True])
def test_a_pause_ends_a_transcription(server: Reading, model: str, has_spoken: bool) -> None:
    """vLLM's engine would go on with what is said later, without what was said before."""
    failed = {"adapter": "upper", "outcome": "failed"}
    before = server.total("adaptry_requests_total", **failed)
    with session(server, model) as socket:
        send(socket, START)
        if has_spoken:
            spell(socket, "hello")
            assert event(socket)["type"] == "transcription.delta"
        if model == "upper":
            server.wait_until(lambda: leases(server) == {"upper:1": 1}, 20)
        try:
            server.client.post("/pause").raise_for_status()
            last = until_end(socket)[-1]
            assert (last["type"], last.get("code")) == ("error", "engine_paused"), last
        finally:
            server.client.post("/resume").raise_for_status()
        assert transcribe(socket, "again")[-1]["type"] == "transcription.done"
    assert leases(server) == {}
    after = server.total("adaptry_requests_total", **failed)
    assert after == before + (model == "upper")


# ---- files ---------------------------------------------------------------------------------------


def recording(word: str) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLES_PER_SECOND)
        file.writeframes(np.array([ord(letter) for letter in word], np.int16).tobytes())
    return content.getvalue()


@pytest.mark.parametrize("language", ["en", None], ids=["named", "found"])
@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_a_file_is_transcribed_by_the_adapter(
    server: Reading, path: str, language: str | None
) -> None:
    """Without a language vLLM asks for it first, of the base model."""
    for model, version in (("upper", "upper:1"), (BASE, None), ("reverse", "reverse:1")):
        data = {"model": model, "temperature": "0", **({"language": language} if language else {})}
        answer = server.client.post(path, files={"file": recording("hello")}, data=data)
        assert answer.status_code == 200, answer.text
        task = TASKS.get(model)
        assert answer.json()["text"] == ("hello" if task is None else task.answer("hello"))
        assert answer.headers.get("x-adaptry-version") == version
    server.wait_until(lambda: leases(server) == {}, 20)


def test_a_file_for_an_unknown_adapter_is_transcribed_by_none(server: Reading) -> None:
    files, data = {"file": recording("hello")}, {"model": "nobody"}
    answer = server.client.post("/v1/audio/transcriptions", files=files, data=data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


# ---- sessions that are refused -------------------------------------------------------------------


def test_an_unknown_adapter_is_refused_and_the_session_goes_on(server: Reading) -> None:
    with session(server, "nobody") as socket:
        assert event(socket)["code"] == "model_not_found"
        send(socket, {"type": "session.update", "model": "upper"})
        assert transcribe(socket, "hello")[-1]["text"] == "HELLO"


def test_a_session_needs_a_key(server: Reading) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url("/v1/realtime").replace("http", "ws"))
    assert refused.value.response.status_code == 403


def test_nothing_of_it_left_a_traceback(server: Reading) -> None:
    assert "Traceback" not in Path(server.log).read_text()
