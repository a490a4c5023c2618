"""Trace of arrivals: what a line says, bounded files, crashes, and a disk that fails."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from adaptry.traces.trace import trace_of
from engine.api.trace import create_trace_router
from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.events import MovedIn
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.request_leases import RequestLeases
from engine.policy.policy import CachePolicy
from engine.settings import EngineSettings
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.spans import NullTracing
from engine.trace import FORMAT
from engine.trace import recorder as trace_recorder
from engine.trace.lines import RequestLine, ServerLine, decode_lines, encode_line
from engine.trace.recorder import EndedRequest, TraceRecorder
from engine.trace.segments import TraceSegments
from engine.types import AdapterVersion, Transition, VersionId, WorkDone
from tests.support.cache.resolvers import OneAdapter

VERSION = AdapterVersion(VersionId(7), "support", 3, "abcdef12" * 8, "/a", 8, 100)
SERVER = ServerLine(FORMAT, 1.0, "localhost:8000", "base", 4, 16, None, 8, 2, 2.0, "lru")
HEADER = encode_line(SERVER)


def line(number: int) -> bytes:
    return encode_line(
        RequestLine(number, f"a{number}", 1, None, 1, 1, "completed", "miss", 0, 0, 0, None, 0)
    )


def adapters(segments: TraceSegments) -> list[str]:
    lines = decode_lines(segments.read())
    return [str(each.adapter) for each in lines if isinstance(each, RequestLine)]


def exported(recorder: TraceRecorder) -> list[dict[str, Any]]:
    return list(map(json.loads, recorder.export()))


class Served:
    """A gateway over a fake engine, and a route that generates for one prompt or several."""

    def __init__(self, recorder: TraceRecorder) -> None:
        backend = FakeBackend(slots=1, host_capacity=1)
        policy, loader = CachePolicy(slots=1, host_capacity=1), Loader(backend, UncheckedFiles())
        metrics = CacheMetrics(CollectorRegistry())
        self.controller = CacheController(policy, backend, loader, recorder)
        self._leases = RequestLeases(self.controller, metrics)
        self.prompts = 1
        self.model = "support"
        self.fails = False
        self.gateway = AdapterGateway(
            self._generate,
            resolver=OneAdapter(VERSION),
            base_models=frozenset({"base"}),
            counter=metrics,
            tracing=NullTracing(),
            unavailable=lambda: None,
            in_flight=RequestsInFlight(lambda: None),
            own_prefix="/api/",
            max_body_bytes=1000,
            trace=recorder,
        )

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        requested = None if self.model == "base" else VERSION.id
        admitted = range(self.prompts)
        works = [await self._leases.admit(requested, lambda: None) for _ in admitted]
        status = 400 if self.fails else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        for each in works:  # after the answer, as the abort of a client that has left
            each.on_end(WorkDone(prompt_tokens=3, generated_tokens=5, first_token_at=2**40))

    async def ask(self) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/completions",
            "headers": [(b"content-type", b"application/json")],
        }
        body = b'{"model": "%s", "prompt": "x"}' % self.model.encode()
        messages: Iterator[Message] = iter([{"type": "http.request", "body": body}])

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None: ...

        await self.gateway(scope, receive, send)


async def test_each_request_is_one_line_with_its_tokens_source_and_load(tmp_path: Path) -> None:
    recorder = TraceRecorder(TraceSegments(tmp_path / "here", 2**20), SERVER)
    served = Served(recorder)
    running = asyncio.create_task(served.controller.run())
    await served.ask()
    served.prompts = 2
    await served.ask()
    served.prompts, served.fails = 1, True
    await served.ask()
    running.cancel()
    await recorder.flush()
    server, *lines = exported(recorder)
    assert server == {"kind": "server", **json.loads(json.dumps(_fields(SERVER)))}
    loads = [each for each in lines if each["kind"] == "load"]
    assert [each["transition"] for each in loads] == list(Transition)
    assert {each["size_bytes"] for each in loads} == {100}
    cold, hot, refused = (each for each in lines if each["kind"] == "request")
    assert (cold["adapter"], cold["version"], cold["tenant"]) == ("support", 3, None)
    assert (cold["source"], cold["load_bytes"], hot["source"]) == ("miss", 100, "gpu_hit")
    assert (cold["load_seconds"] > 0, hot["load_seconds"], hot["load_bytes"]) == (True, 0, 0)
    assert (cold["prompt_tokens"], cold["generated_tokens"]) == (3, 5)
    assert (hot["prompt_tokens"], hot["generated_tokens"]) == (6, 10)
    assert cold["first_token_seconds"] > 0 <= cold["wait_seconds"]
    assert [each["outcome"] for each in (cold, hot, refused)] == ["completed"] * 2 + ["refused"]


async def test_a_request_for_the_base_model_is_a_line_without_an_adapter(tmp_path: Path) -> None:
    recorder = TraceRecorder(TraceSegments(tmp_path / "here", 2**20), SERVER)
    served = Served(recorder)
    served.model, served.prompts = "base", 2
    await served.ask()
    served.prompts = 0  # such as `/tokenize`
    await served.ask()
    await recorder.flush()
    _, line = exported(recorder)
    assert (line["adapter"], line["version"], line["source"]) == (None, None, None)
    assert (line["outcome"], line["prompt_tokens"], line["generated_tokens"]) == (
        "completed",
        6,
        10,
    )
    assert line["first_token_seconds"] > 0 == line["wait_seconds"]
    (read,) = trace_of([line]).requests
    assert (read.adapter, read.generated_tokens) == (None, 10)


def _fields(server: ServerLine) -> dict[str, Any]:
    return {name: getattr(server, name) for name in server.__struct_fields__}


def test_the_oldest_lines_make_room_and_each_file_says_whose_it_is(tmp_path: Path) -> None:
    segments = TraceSegments(tmp_path, 8 * 1024)
    for start in range(0, 500, 50):
        segments.append([line(n) for n in range(start, start + 50)], HEADER)
        assert segments.size_bytes() <= 8 * 1024
    kept = adapters(segments)
    assert kept == [f"a{n}" for n in range(500 - len(kept), 500)]
    assert len(kept) > 50
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(HEADER)


def test_a_line_that_a_crash_cut_off_is_left_out_and_the_next_process_goes_on(
    tmp_path: Path,
) -> None:
    TraceSegments(tmp_path, 2**20).append([line(1), line(2)], HEADER)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    again = TraceSegments(tmp_path, 2**20)
    again.append([line(3)], HEADER)
    assert adapters(again) == ["a1", "a3"]


def test_only_the_server_s_own_user_may_read_it(tmp_path: Path) -> None:
    TraceSegments(tmp_path / "here", 2**20).append([line(1)], HEADER)
    assert (tmp_path / "here").stat().st_mode & 0o777 == 0o700


def test_a_server_that_restarts_all_the_time_leaves_few_files(tmp_path: Path) -> None:
    for number in range(300):
        TraceSegments(tmp_path, 2**20).append([line(number)], HEADER)
    assert len(list(tmp_path.iterdir())) == 256


async def test_a_disk_that_fails_is_logged_once_and_the_server_serves_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "file" / "here"
    (tmp_path / "file").write_text("in the way")
    recorder = TraceRecorder(TraceSegments(folder, 2**20), SERVER)
    for _ in range(2):
        _add(recorder)
        await recorder.flush()
    assert (recorder.dropped, caplog.text.count("can't be written")) == (2, 1)
    (tmp_path / "file").unlink()
    _add(recorder)
    await recorder.flush()
    assert [each["kind"] for each in exported(recorder)] == ["server", "request"]


async def test_a_line_that_can_not_be_encoded_does_not_end_the_server(tmp_path: Path) -> None:
    recorder = TraceRecorder(TraceSegments(tmp_path, 2**20), SERVER)
    recorder.add_request(EndedRequest(1.0, VERSION, "\ud800", None, None, "refused", 0.5))
    await recorder.flush()
    _add(recorder)
    await recorder.flush()
    assert recorder.dropped == 1
    assert [each["kind"] for each in exported(recorder)] == ["server", "request"]


async def test_a_line_that_can_not_be_encoded_takes_no_other_with_it(tmp_path: Path) -> None:
    recorder = TraceRecorder(TraceSegments(tmp_path, 2**20), SERVER)
    _add(recorder)
    recorder.add_request(EndedRequest(1.0, VERSION, "\ud800", None, None, "refused", 0.5))
    _add(recorder)
    await recorder.flush()
    assert recorder.dropped == 1
    assert [each["kind"] for each in exported(recorder)] == ["server", "request", "request"]


async def test_loads_beyond_what_is_kept_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_recorder, "MAX_PENDING", 1)
    recorder = TraceRecorder(TraceSegments(tmp_path, 2**20), SERVER)
    for _ in range(3):
        recorder.on_event(MovedIn(VERSION, Transition.DISK_TO_HOST, 0.5))
    assert recorder.dropped == 2


def _add(recorder: TraceRecorder) -> None:
    recorder.add_request(EndedRequest(1.0, VERSION, "acme", None, None, "refused", 0.5))


async def test_what_is_left_is_written_when_the_server_stops(tmp_path: Path) -> None:
    recorder = TraceRecorder(TraceSegments(tmp_path, 2**20), SERVER)
    running = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    _add(recorder)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert exported(recorder)[1]["tenant"] == "acme"


class SlowSegments(TraceSegments):
    """Fails if two threads write at a time."""

    writers = 0

    def append(self, lines: Sequence[bytes], header: bytes) -> None:
        self.writers += 1
        time.sleep(0.1)
        assert self.writers == 1, "the file of one is closed by another"
        super().append(lines, header)
        self.writers -= 1


async def test_a_server_that_stops_waits_for_the_thread_that_writes(tmp_path: Path) -> None:
    segments = SlowSegments(tmp_path, 2**20)
    recorder = TraceRecorder(segments, SERVER)
    _add(recorder)
    flushing = asyncio.create_task(recorder.flush())
    running = asyncio.create_task(recorder.run())
    await asyncio.sleep(0.02)
    _add(recorder)
    flushing.cancel()
    running.cancel()
    ended = await asyncio.gather(flushing, running, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    assert [each["kind"] for each in exported(recorder)] == ["server", "request", "request"]


async def ask_route(recorder: TraceRecorder | None) -> httpx.Response:
    app = FastAPI()
    app.include_router(create_trace_router(recorder))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        return await http.get("/api/v1/cache/trace")


async def test_the_route_has_what_was_recorded_a_moment_ago(tmp_path: Path) -> None:
    recorder = TraceRecorder(TraceSegments(tmp_path, 2**20), SERVER)
    for _ in range(2500):
        _add(recorder)
    answer = await ask_route(recorder)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(each)["kind"] for each in answer.text.splitlines()]
    assert lines.count("request") == 2500


async def test_without_a_trace_the_route_says_which_setting_is_off() -> None:
    answer = await ask_route(None)
    assert (answer.status_code, answer.json()["code"]) == (409, "trace_off")


async def test_a_trace_that_can_not_be_read_is_no_500(tmp_path: Path) -> None:
    (tmp_path / "000001.jsonl").mkdir()
    answer = await ask_route(TraceRecorder(TraceSegments(tmp_path, 2**20), SERVER))
    assert (answer.status_code, answer.json()["code"]) == (503, "trace_unreadable")


@pytest.mark.parametrize("size", ["1", "1000KiB", "-1"])
def test_a_size_that_holds_nothing_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="trace_bytes"):
        EngineSettings.model_validate({"trace_bytes": size})
