"""Uploads over HTTP: files or one archive, streamed to disk, and nothing sent can do harm."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.sources.disks.store_threads import STEPS
from registry.storage.integrity import fingerprint_file
from tests.support.servers.registry_in_loop import Json, Registry, running_registry
from tests.support.store_calls import store_calls

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]
Files = dict[str, bytes]

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PATH = "/adapters/bot/versions?wait=0"


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Start:
    return lambda **settings: running_registry(database_url, tmp_path, base_model, **settings)


@pytest.fixture
async def registry(start: Start) -> AsyncIterator[Registry]:
    async with start() as running:
        yield running
        await running.no_leftovers()


@pytest.fixture
def adapter(make_adapter: AdapterMaker) -> Files:
    return {file.name: file.read_bytes() for file in make_adapter("a").iterdir()}


async def send(registry: Registry, files: Files, **fields: str) -> httpx.Response:
    parts = [("files", (name, content)) for name, content in files.items()]
    return await registry.http.post(PATH, files=parts, data=fields)


def archive(files: Files, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as made:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(f"folder/{name}")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sealed(folder: Path) -> dict[str, list[int]]:
    """The fingerprint of files that were not touched since."""
    return {
        name: [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        for name, status in ((file.name, file.stat()) for file in folder.iterdir())
    }


async def last_job(registry: Registry) -> Json:
    job: Json = (await registry.http.get("/jobs")).json()["items"][0]
    return job


# ---- what becomes a version --------------------------------------------------------------


async def test_files_become_a_version(registry: Registry, adapter: Files) -> None:
    response = await send(registry, adapter, description="Says no.")
    job = await registry.finished(response)
    assert (job["state"], job["version"], job["source"]) == ("succeeded", "bot:1", "upload"), job
    total = sum(map(len, adapter.values()))
    assert (job["bytes_done"], job["bytes_total"]) == (total, total)
    version = (await registry.http.get("/adapters/bot/versions/1")).json()
    assert (version["source"], version["revision"]) == ("upload", None)
    kept = registry.store / "adapters" / version["digest"][:2] / version["digest"]
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == adapter
    assert {file.stat().st_nlink for file in kept.iterdir()} == {1}
    async with asyncio.timeout(10):
        while json.loads(fingerprint_file(kept).read_bytes()) != sealed(kept):
            await asyncio.sleep(0.02)
    assert (await registry.http.get("/adapters/bot")).json()["description"] == "Says no."


async def test_what_is_said_of_a_version_comes_with_its_upload(
    registry: Registry, adapter: Files
) -> None:
    said: Json = {"tags": ["fast", "small"], "metadata": {"steps": 3}, "dataset": "letters"}
    texts = {key: value if key == "dataset" else json.dumps(value) for key, value in said.items()}
    assert (await registry.finished(await send(registry, adapter, **texts)))["version"] == "bot:1"
    version = (await registry.http.get("/adapters/bot/versions/1")).json()
    assert {key: version[key] for key in said} == said


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("A.TAR.GZ", "w:gz"), ("a.tgz", "w:gz")]
)
async def test_an_archive_becomes_a_version(
    registry: Registry, adapter: Files, name: str, mode: str
) -> None:
    job = await registry.finished(await send(registry, {name: archive(adapter, mode)}))
    assert (job["state"], job["version"]) == ("succeeded", "bot:1"), job


async def test_all_ways_lead_to_the_same_version(
    registry: Registry, adapter: Files, make_adapter: AdapterMaker
) -> None:
    local = await registry.register("bot", make_adapter("same"))
    assert local.status_code == 201
    folders = {f"some/folder/{name}": content for name, content in adapter.items()}
    extra = {**adapter, "README.md": b"r" * 100_000, "tokenizer.json": b"{}"}
    for files in (adapter, folders, extra, {"x.tar": archive(adapter)}):
        job = await registry.finished(await send(registry, files))
        assert (job["state"], job["version"], job["created"]) == ("succeeded", "bot:1", False)


async def test_a_body_in_many_small_pieces(registry: Registry, adapter: Files) -> None:
    whole = httpx.Request("POST", "http://x", files=[("f", item) for item in adapter.items()])
    content = whole.read()

    async def pieces() -> AsyncIterator[bytes]:
        for n in range(0, len(content), 7):
            yield content[n : n + 7]

    headers = {"content-type": whole.headers["content-type"]}
    response = await registry.http.post(PATH, content=pieces(), headers=headers)
    assert (await registry.finished(response))["state"] == "succeeded"


async def test_a_pickle_is_named_and_never_stored(registry: Registry, adapter: Files) -> None:
    files = {CONFIG: adapter[CONFIG], PICKLE: b"\x80pickled" * 1000}
    for sent in (files, {"x.tar": archive(files)}):
        job = await registry.finished(await send(registry, sent))
        assert (job["state"], job["code"]) == ("failed", "pickle_weights")
    with_weights = {**adapter, PICKLE: b"\x80pickled"}
    assert (await registry.finished(await send(registry, with_weights)))["state"] == "succeeded"
    (stored,) = (registry.store / "adapters").glob("??/*")
    assert {file.name for file in stored.iterdir()} == {CONFIG, WEIGHTS}


async def test_without_links_files_are_copied(
    registry: Registry, adapter: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that has none."""

    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", no_links)
    job = await registry.finished(await send(registry, adapter))
    assert (job["state"], job["version"]) == ("succeeded", "bot:1"), job


# ---- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"README.md": b"x"}, 400, "invalid_upload"),
        ({CONFIG: b"{}", "x.tar": b""}, 400, "invalid_upload"),
        ({"a.tar": b"", "b.tar": b""}, 400, "invalid_upload"),
        ({CONFIG: b"{}", f"other/{CONFIG}": b"{}"}, 400, "invalid_upload"),
        ({f"../{CONFIG}": b"{}"}, 422, "unsafe_path"),
        ({f"/etc/{CONFIG}": b"{}"}, 422, "unsafe_path"),
        ({"../README.md": b"x"}, 422, "unsafe_path"),
        ({f"a/../../{CONFIG}": b"{}"}, 422, "unsafe_path"),
    ],
    ids=str,
)
async def test_an_upload_that_can_not_be_taken_is_refused(
    registry: Registry, files: Files, status: int, code: str
) -> None:
    response = await send(registry, files, description="x")
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    job = await last_job(registry)
    assert (job["state"], job["code"]) == ("failed", code)
    assert response.json()["detail"] == job["detail"]


async def test_a_defect_within_is_the_job_s(registry: Registry, adapter: Files) -> None:
    bad_archive = archive({**adapter, "../x": b""})
    job = await registry.finished(await send(registry, {"x.tar": bad_archive}))
    assert (job["state"], job["code"]) == ("failed", "unsafe_path")
    job = await registry.finished(await send(registry, {CONFIG: adapter[CONFIG]}))
    assert (job["state"], job["code"]) == ("failed", "weights_missing")


@pytest.mark.parametrize(
    "fields",
    [
        {"descriptoin": "x"},
        {"source": "/etc"},
        {"description": "x" * 5000},
        {"": "x"},
        {"tags": "fast"},
        {"metadata": "[" * 100_000},
        {"metadata": "[1]"},
    ],
    ids=str,
)
async def test_fields_are_those_of_the_json_body(
    registry: Registry, adapter: Files, fields: dict[str, str]
) -> None:
    response = await send(registry, adapter, **fields)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_upload"), fields
    assert (await last_job(registry))["state"] == "failed"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/mixed; boundary=x", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nheadless\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n"),
        (f"multipart/form-data; boundary={'x' * 5000}", b""),
    ],
    ids=str,
)
async def test_what_is_no_form_is_refused(
    registry: Registry, content_type: str, body: bytes
) -> None:
    headers = {"content-type": content_type}
    response = await registry.http.post(PATH, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_upload")


async def test_a_body_that_ends_too_early_is_refused(registry: Registry, adapter: Files) -> None:
    whole = httpx.Request("POST", "http://x", files=[("f", item) for item in adapter.items()])
    content = whole.read()
    headers = {"content-type": whole.headers["content-type"]}
    for end in (50, len(content) // 2, len(content) - 10):
        response = await registry.http.post(PATH, content=content[:end], headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_upload"), end


@pytest.mark.parametrize("name", ["Bot", "tiny"])
async def test_a_name_that_can_not_be_is_refused_before_anything_is_read(
    registry: Registry, adapter: Files, name: str
) -> None:
    parts = [("files", item) for item in adapter.items()]
    response = await registry.http.post(f"/adapters/{name}/versions?wait=0", files=parts)
    assert response.status_code in (400, 409)
    assert (await registry.http.get("/jobs")).json()["items"] == []


# ---- limits ------------------------------------------------------------------------------


async def test_an_upload_that_says_it_is_too_large_is_not_even_begun(start: Start) -> None:
    async with start(max_adapter_bytes=1000) as registry:
        response = await send(registry, {WEIGHTS: b"w" * 3_000_000})
        assert (response.status_code, response.json()["code"]) == (413, "source_too_large")
        assert (await registry.http.get("/jobs")).json()["items"] == []
        assert registry.leftovers() == []


@pytest.mark.timeout(60)
async def test_an_upload_that_grows_too_large_is_ended(start: Start) -> None:
    async with start(max_adapter_bytes=1000) as registry:
        url = registry.http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = (
            f"POST /api/v1{PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        part = f'--x\r\nContent-Disposition: form-data; name="f"; filename="{WEIGHTS}"\r\n\r\n'
        writer.write(head.encode() + chunk(part.encode()))
        for _ in range(40):
            writer.write(chunk(b"w" * 100_000))
        answer = await reader.readuntil(b"\r\n")
        assert b" 413 " in answer
        writer.close()
        job = await last_job(registry)
        assert (job["state"], job["code"]) == ("failed", "source_too_large")
        await registry.no_leftovers()


async def test_training_files_do_not_go_on_for_ever(
    start: Start, adapter: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They don't count as the adapter's, which is no reason to read them without an end."""
    monkeypatch.setattr("registry.ingest.multipart.MAX_TRAINING_BYTES", 2**20)
    room = sum(map(len, adapter.values()))
    async with start(max_adapter_bytes=room, max_training_file_bytes=1000) as registry:
        few = await send_chunks(registry, {**adapter, "tokenizer.json": bytes(2**20)})
        assert (await registry.finished(few))["version"] == "bot:1"
        many = await send_chunks(registry, {**adapter, "tokenizer.json": bytes(4 * 2**20)})
        assert (many.status_code, many.json()["code"]) == (413, "source_too_large")


async def send_chunks(registry: Registry, files: Files) -> httpx.Response:
    """Without saying before how much it will be."""
    parts = [("files", (name, content)) for name, content in files.items()]
    form = registry.http.build_request("POST", PATH, files=parts)
    body = form.read()

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 2**16):
            yield body[begin : begin + 2**16]

    kind = {"content-type": form.headers["content-type"]}
    return await registry.http.post(PATH, content=chunks(), headers=kind)


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


async def test_a_weights_file_over_the_limit_is_refused_when_it_is_counted(start: Start) -> None:
    """The body may be a little larger than the adapter: it has fields and boundaries."""
    async with start(max_adapter_bytes=1000) as registry:
        job = await registry.finished(await send(registry, {WEIGHTS: b"w" * 1001}))
        assert (job["state"], job["code"]) == ("failed", "source_too_large")


async def test_too_many_parts_are_refused(start: Start) -> None:
    async with start(max_source_files=10) as registry:
        response = await send(registry, {f"{n}.txt": b"" for n in range(11)})
        assert (response.status_code, response.json()["code"]) == (413, "source_too_large")


async def test_json_is_not_read_without_an_end(registry: Registry) -> None:
    response = await registry.http.post(PATH, content=b" " * 3_000_000)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_upload")
    assert "multipart" in response.json()["detail"]


async def test_large_fields_are_refused(registry: Registry, adapter: Files) -> None:
    response = await send(registry, adapter, description="x" * 1_100_000)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_upload")
    assert "the fields are over" in response.json()["detail"], "they are not kept in memory"


async def test_a_field_that_stands_twice_is_refused(registry: Registry, adapter: Files) -> None:
    files: list[Any] = [("file", item) for item in adapter.items()]
    twice = [("description", (None, text)) for text in ("one", "other")]
    response = await registry.http.post(PATH, files=[*files, *twice])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_upload")
    assert "stands twice" in response.json()["detail"]


class Slow:
    """An upload that waits in the middle, over a connection of its own."""

    def __init__(self, registry: Registry, adapter: Files) -> None:
        whole = httpx.Request("POST", "http://x", files=[("f", item) for item in adapter.items()])
        self._content = whole.read()
        self._head = (
            f"POST /api/v1{PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(self._content)}\r\n"
            f"Content-Type: {whole.headers['content-type']}\r\n\r\n"
        )
        self._url = registry.http.base_url

    async def begin(self) -> None:
        assert self._url.port
        self.reader, self.writer = await asyncio.open_connection(self._url.host, self._url.port)
        half = len(self._content) // 2
        self.writer.write(self._head.encode() + self._content[:half])
        await self.writer.drain()
        self._rest = self._content[half:]

    async def end(self) -> bytes:
        """The status line of the answer."""
        self.writer.write(self._rest)
        return await self.reader.readuntil(b"\r\n")

    def leave(self) -> None:
        self.writer.transport.abort()


async def receiving(registry: Registry) -> Json:
    async with asyncio.timeout(10):
        while not (jobs := (await registry.http.get("/jobs?state=receiving")).json()["items"]):
            await asyncio.sleep(0.02)
    job: Json = jobs[0]
    return await registry.until(job["id"], lambda job: job["bytes_done"] > 0)


async def test_an_upload_is_seen_while_it_comes(registry: Registry, adapter: Files) -> None:
    upload = Slow(registry, adapter)
    await upload.begin()
    job = await receiving(registry)
    assert 0 < job["bytes_done"] < job["bytes_total"]
    assert b" 202 " in await upload.end()
    assert (await registry.end_of(job["id"]))["state"] == "succeeded"
    upload.leave()


async def test_concurrent_uploads_are_limited(start: Start, adapter: Files) -> None:
    async with start(max_uploads=1) as registry:
        upload = Slow(registry, adapter)
        await upload.begin()
        job = await receiving(registry)
        refused = await send(registry, adapter)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
        assert b" 202 " in await upload.end()
        assert (await registry.end_of(job["id"]))["state"] == "succeeded"
        upload.leave()
        assert (await registry.finished(await send(registry, adapter)))["created"] is False


async def test_a_tenant_leaves_places_for_uploads_to_others(start: Start, adapter: Files) -> None:
    """One that sends slowly holds its share, and no more."""
    parts = [("files", item) for item in adapter.items()]
    async with start(max_uploads=4) as registry:
        places = registry.ingest._uploads._places
        with places.hold("acme"), places.hold("acme"):
            refused = await registry.http.post("/adapters/acme~more/versions", files=parts)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
            assert "acme" in refused.json()["detail"]
            taken = await registry.http.post("/adapters/own/versions", files=parts, timeout=30)
            assert taken.status_code == 201, taken.text


async def test_a_client_that_leaves_leaves_nothing(registry: Registry, adapter: Files) -> None:
    upload = Slow(registry, adapter)
    await upload.begin()
    job = await receiving(registry)
    upload.leave()
    job = await registry.end_of(job["id"])
    assert (job["state"], job["code"]) == ("failed", "invalid_upload")
    assert "left" in job["detail"]


async def test_a_client_that_is_too_slow_gets_a_problem(start: Start, adapter: Files) -> None:
    async with start(ingest_timeout_seconds=0.3) as registry:
        upload = Slow(registry, adapter)
        await upload.begin()
        assert b" 504 " in await upload.reader.readuntil(b"\r\n")
        upload.leave()
        job = await last_job(registry)
        assert (job["state"], job["code"]) == ("failed", "source_timeout")
        await registry.no_leftovers()


async def test_an_upload_that_the_store_does_not_take_is_not_its_clients_fault(
    start: Start, adapter: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STEPS, "seconds", 0.3)
    async with start(ingest_timeout_seconds=3.0) as registry:
        upload = Slow(registry, adapter)
        await upload.begin()
        number = (await receiving(registry))["id"]
        with store_calls(registry.store) as calls:
            calls.hang()
            assert b" 503 " in await upload.end()
        upload.leave()
        job = await registry.end_of(number)
        assert (job["state"], job["code"]) == ("failed", "store_unavailable")


async def test_an_upload_can_be_cancelled_while_it_comes(
    registry: Registry, adapter: Files
) -> None:
    upload = Slow(registry, adapter)
    await upload.begin()
    job = await receiving(registry)
    await registry.http.post(f"/jobs/{job['id']}/cancel")
    assert b" 409 " in await upload.reader.readuntil(b"\r\n")
    upload.leave()
    assert (await registry.end_of(job["id"]))["state"] == "cancelled"


async def test_a_full_disk_is_said_and_nothing_stays(
    registry: Registry, adapter: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    response = await send(registry, adapter)
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert "No space left" in response.json()["detail"]
