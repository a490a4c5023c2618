"""Registries that send something else than they should, or never end."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from registry.errors import InvalidRedirect, InvalidSource, SourceDenied, SourceUnavailable
from registry.sources.base import FetchLimits, Progress
from registry.sources.registry import RemoteSources
from tests.support.adapters.fetch import LOOPBACK, Fetch

WEIGHTS = b"w" * 100_000
DIGEST = f"sha256:{sha256(WEIGHTS).hexdigest()}"
MANIFEST, BLOB = "/v2/team/a/manifests/1", f"/v2/team/a/blobs/{DIGEST}"

Send = Callable[[socket.socket], None]


@contextmanager
def serving(answers: Mapping[str, bytes | Send]) -> Iterator[str]:
    """HOST:PORT of a server that sends these bytes for a path, each on a connection of its own."""

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            path = connection.recv(65536).split()[1].decode().partition("?")[0]
            say = answers[path]
            if isinstance(say, bytes):
                connection.sendall(say)
            else:
                say(connection)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def answer(content: bytes, status: str = "200 OK", *headers: str, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {length}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + content


def manifest(size: str = str(len(WEIGHTS))) -> bytes:
    title = {"org.opencontainers.image.title": "adapter_model.safetensors"}
    layer = {"mediaType": "application/x", "digest": DIGEST, "size": 0, "annotations": title}
    return answer(json.dumps({"layers": [layer]}).replace('"size": 0', f'"size": {size}').encode())


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path, 100_000_000, lambda guard: RemoteSources(("oci://",), guard))


async def test_a_connection_that_breaks_within_a_blob_is_a_transient_error(fetch: Fetch) -> None:
    broken = answer(WEIGHTS[:1000], size=len(WEIGHTS))
    with serving({MANIFEST: manifest(), BLOB: broken}) as place, pytest.raises(SourceUnavailable):
        await fetch(f"oci://{place}/team/a:1")
    with serving({MANIFEST: answer(b"{", size=5)}) as place, pytest.raises(SourceUnavailable):
        await fetch(f"oci://{place}/team/a:1")


@pytest.mark.parametrize(
    "said",
    [answer(b"[" * 200_000), answer(b'{"a":' * 200_000), manifest("1e999"), manifest("NaN")],
)
async def test_a_manifest_that_cannot_be_read_is_invalid(fetch: Fetch, said: bytes) -> None:
    with serving({MANIFEST: said}) as place, pytest.raises(InvalidSource):
        await fetch(f"oci://{place}/team/a:1")


@pytest.mark.parametrize(
    ("demand", "token"),
    [
        ('Bearer service="x"', b"{}"),
        ("Negotiate", b"{}"),
        ('Bearer realm="http://PLACE/token"', b"[]"),
        ('Bearer realm="http://PLACE/token"', b"[" * 200_000),
    ],
)
async def test_a_demand_that_cannot_be_met_is_denied(
    fetch: Fetch, demand: str, token: bytes
) -> None:
    answers: dict[str, bytes | Send] = {"/token": answer(token)}
    with serving(answers) as place:
        header = f"Www-Authenticate: {demand.replace('PLACE', place)}"
        answers[MANIFEST] = answer(b"", "401 Unauthorized", header)
        with pytest.raises(SourceDenied):
            await fetch(f"oci://{place}/team/a:1")


@pytest.mark.parametrize("target", ["", "ftp://127.0.0.1/", "mailto:a@example.com", MANIFEST])
async def test_a_redirect_that_leads_nowhere_is_not_tried_again(fetch: Fetch, target: str) -> None:
    said = answer(b"", "307 Temporary Redirect", f"Location: {target}")
    with serving({MANIFEST: said}) as place, pytest.raises(InvalidRedirect):
        await fetch(f"oci://{place}/team/a:1")


async def test_what_comes_with_a_redirect_is_not_read(fetch: Fetch) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(answer(b"", "307 Temporary Redirect", f"Location: {BLOB}", size=10**9))
        while sent < 200_000_000:
            sent += connection.send(bytes(1_000_000))

    with serving({MANIFEST: endless, BLOB: answer(b"{}")}) as place, pytest.raises(InvalidSource):
        await fetch(f"oci://{place}/team/a:1")
    assert sent < 100_000_000


@pytest.mark.parametrize("url", ["oci://PLACE/team/a:1", "mlflow:/a/1", "hf://team/a"])
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", answer(b"", size=1000)])
async def test_a_server_that_never_ends_holds_no_thread(
    tmp_path: Path, url: str, start: bytes
) -> None:
    called, ended = threading.Event(), threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        called.set()
        while not ended.wait(0.1) and start:
            connection.send(b"x")
        ended.wait()

    asked = (MANIFEST, "/api/2.0/mlflow/model-versions/get", "/api/models/team/a")
    with serving(dict.fromkeys(asked, drip)) as place:
        guard, server = LOOPBACK, f"http://{place}"
        rules = ("oci://", "mlflow:/", "hf://")
        sources = RemoteSources(rules, guard, hub_endpoint=server, mlflow_uri=server)
        _, source = sources.open(url.replace("PLACE", place))
        fetching = asyncio.create_task(source.fetch(tmp_path, FetchLimits(1000), Progress()))
        await asyncio.to_thread(called.wait, 10)
        await asyncio.sleep(0.2)
        fetching.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait({fetching})
        ended.set()
    assert fetching.cancelled()


async def test_a_login_is_not_sent_where_a_redirect_s_target_says(
    fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    elsewhere: dict[str, bytes | Send] = {"/token": lambda _: asked.set()}
    with serving(elsewhere) as other:
        demand = f'Www-Authenticate: Bearer realm="http://{other}/token"'
        elsewhere["/blob"] = answer(b"", "401 Unauthorized", demand)
        moved = answer(b"", "307 Temporary Redirect", f"Location: http://{other}/blob")
        with serving({"/v2/": answer(b""), MANIFEST: manifest(), BLOB: moved}) as place:
            (tmp_path / ".docker").mkdir()
            login = {"auths": {place: {"auth": "YW5uOnNlY3JldA=="}}}
            (tmp_path / ".docker/config.json").write_text(json.dumps(login))
            monkeypatch.setenv("HOME", str(tmp_path))
            with pytest.raises(SourceDenied):
                await fetch(f"oci://{place}/team/a:1")
    assert not asked.is_set()
