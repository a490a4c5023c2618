"""Adapters over HTTP: what comes, what is refused, and which machines are never called."""

import asyncio
import gzip
import io
import os
import socket
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from blake3 import blake3
from yarl import URL

from registry.errors import (
    AddressNotAllowed,
    InvalidAdapter,
    InvalidRedirect,
    InvalidSource,
    SourceDenied,
    SourceNotAllowed,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
)
from registry.inspection.training_files import FOLDER, NAMES
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.egress_guard import EgressGuard
from registry.sources.http import HttpFiles
from registry.sources.http_client import GuardedSockets
from registry.sources.registry import RemoteSources
from tests.support.servers.web import Handler, WebServer, web_server

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
LOOPBACK = EgressGuard(allowed=(ip_network("127.0.0.1/32"),))
LIMITS = FetchLimits(max_bytes=10_000_000)
ADAPTER = {CONFIG: b"{}", WEIGHTS: os.urandom(3_000_000)}


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as web:
        for name, content in ADAPTER.items():
            web.file(f"/support/{name}", content, ETag=f'"{len(content)}"')
        yield web


class Fetch:
    """Fetches with the rules that a test gives, into an empty folder each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.progress = Progress()
        self.limits = LIMITS

    async def __call__(
        self, url: str, *rules: str, guard: EgressGuard = LOOPBACK
    ) -> tuple[FetchedSource, dict[str, bytes]]:
        self._count += 1
        into = self._folder / str(self._count)
        into.mkdir()
        self.progress = Progress()
        _, source = RemoteSources(rules or ("http://",), guard).open(url)
        fetched = await source.fetch(into, self.limits, self.progress)
        return fetched, {f.name: f.read_bytes() for f in into.iterdir() if f.is_file()}


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


# ---- what comes --------------------------------------------------------------------------


async def test_a_folder_is_fetched_and_hashed(server: WebServer, fetch: Fetch) -> None:
    fetched, files = await fetch(f"{server.url}/support")
    assert files == ADAPTER
    assert {f.name: f.hash for f in fetched.files} == {
        name: blake3(content).hexdigest() for name, content in ADAPTER.items()
    }
    assert fetched.revision == str(len(ADAPTER[WEIGHTS]))
    total = sum(map(len, ADAPTER.values()))
    assert (fetch.progress.bytes_done, fetch.progress.bytes_total) == (total, total)
    asked = [path for _, path in server.asked]
    assert asked == [f"/support/{name}" for name in (CONFIG, WEIGHTS, *NAMES)]


async def test_what_it_was_trained_with_comes_too(
    server: WebServer, fetch: Fetch, tmp_path: Path
) -> None:
    server.file("/support/chat_template.jinja", b"a template")
    server.fail("/support/tokenizer.json", 500)
    fetched, _ = await fetch(f"{server.url}/support/")
    assert {file.name for file in fetched.files} == set(ADAPTER)
    beside = tmp_path / "1" / FOLDER
    assert {file.name: file.read_bytes() for file in beside.iterdir()} == {
        "chat_template.jinja": b"a template"
    }
    [(code, detail)] = fetched.remarks
    assert code == "training_unread"
    assert "tokenizer.json" in detail


async def test_a_trailing_slash_changes_nothing(server: WebServer, fetch: Fetch) -> None:
    _, files = await fetch(f"{server.url}/support/")
    assert files == ADAPTER


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".TAR"])
async def test_an_archive_is_fetched_and_unpacked(
    server: WebServer, fetch: Fetch, ending: str
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if "g" in ending else "w") as archive:
        for name, content in ADAPTER.items():
            info = tarfile.TarInfo(f"support/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    server.file(f"/support{ending}", buffer.getvalue(), ETag="W/abc")
    fetched, files = await fetch(f"{server.url}/support{ending}")
    assert files == ADAPTER
    assert fetched.revision == "W/abc"


async def test_a_signed_query_goes_with_every_request(server: WebServer, fetch: Fetch) -> None:
    _, files = await fetch(f"{server.url}/support?X-Signature=a%2Fb%3D&x=1")
    assert files == ADAPTER
    assert {path.partition("?")[2] for _, path in server.asked} == {"X-Signature=a%2Fb%3D&x=1"}


async def test_a_pickle_is_noted_but_not_fetched(server: WebServer, fetch: Fetch) -> None:
    server.file(f"/old/{CONFIG}", b"{}")
    server.file(f"/old/{PICKLE}", b"x" * 5_000_000)
    _, files = await fetch(f"{server.url}/old")
    assert files == {CONFIG: b"{}", PICKLE: b""}


async def test_a_missing_file_is_for_inspection_to_name(server: WebServer, fetch: Fetch) -> None:
    server.file(f"/bare/{WEIGHTS}", b"w")
    _, files = await fetch(f"{server.url}/bare")
    assert files == {WEIGHTS: b"w"}


async def test_a_body_of_unknown_length_is_read_to_its_end(server: WebServer, fetch: Fetch) -> None:
    def chunked(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(3):
            handler.wfile.write(b"3e8\r\n" + b"w" * 1000 + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.answers[f"/support/{WEIGHTS}"] = chunked
    _, files = await fetch(f"{server.url}/support")
    assert files[WEIGHTS] == b"w" * 3000
    assert fetch.progress.bytes_total == len(ADAPTER[CONFIG])


# ---- what goes wrong ---------------------------------------------------------------------


async def test_nothing_there_is_not_found(server: WebServer, fetch: Fetch) -> None:
    for path in ("/none", "/none.tar"):
        with pytest.raises(SourceNotFound, match="/none"):
            await fetch(f"{server.url}{path}?signature=secret")
    server.fail(f"/gone/{CONFIG}", 410)
    with pytest.raises(SourceNotFound):
        await fetch(f"{server.url}/gone")


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_are_wanted_are_said(
    server: WebServer, fetch: Fetch, status: int
) -> None:
    server.fail(f"/support/{WEIGHTS}", status)
    with pytest.raises(SourceDenied) as caught:
        await fetch(f"{server.url}/support?signature=secret")
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_an_error_of_the_server_may_pass(
    server: WebServer, fetch: Fetch, status: int
) -> None:
    server.fail(f"/support/{WEIGHTS}", status)
    with pytest.raises(SourceUnavailable, match=str(status)):
        await fetch(f"{server.url}/support")


async def test_a_refused_connection_is_unavailable(fetch: Fetch) -> None:
    with pytest.raises(SourceUnavailable):
        await fetch("http://127.0.0.1:1/support")
    with pytest.raises(SourceUnavailable):
        await fetch("http://nobody.invalid/support")


async def test_a_body_that_is_cut_off_is_unavailable(server: WebServer, fetch: Fetch) -> None:
    def cut_off(handler: Handler) -> None:
        handler.send(200, b"only this", {"Content-Length": "5000"})
        handler.close_connection = True

    server.answers[f"/support/{WEIGHTS}"] = cut_off
    with pytest.raises(SourceUnavailable):
        await fetch(f"{server.url}/support")


async def test_too_large_is_known_from_the_header_or_found_out(
    server: WebServer, fetch: Fetch
) -> None:
    fetch.limits = FetchLimits(len(ADAPTER[WEIGHTS]))
    with pytest.raises(SourceTooLarge):
        await fetch(f"{server.url}/support")
    assert fetch.progress.bytes_done == len(ADAPTER[CONFIG]), "not a byte of the weights"

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(b"w" * 10_000)

    server.answers[f"/support/{WEIGHTS}"] = endless
    with pytest.raises(SourceTooLarge):
        await fetch(f"{server.url}/support")


@pytest.mark.parametrize("size", ["²", "-1", "9" * 5000, "", "1e3"])
async def test_a_length_that_is_no_number_is_an_unknown_one(size: str) -> None:
    class Opened:
        r = SimpleNamespace(headers={"Content-Length": size})

        async def read(self, _: int) -> bytes:
            return b""

        async def close(self) -> None: ...

    async def open_async(*_: object, **__: object) -> Opened:
        return Opened()

    sockets: Any = SimpleNamespace(translate_errors=_nothing_to_translate)
    system = SimpleNamespace(open_async=open_async)
    files = HttpFiles(system, lambda name: URL(f"https://example.com/{name}"), sockets)
    async with files.open("adapter_config.json") as file:
        assert file is not None
        assert file.size_bytes is None


@asynccontextmanager
async def _nothing_to_translate(_: str) -> AsyncIterator[None]:
    yield


async def test_unrequested_compression_is_refused(server: WebServer, fetch: Fetch) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    server.file(f"/support/{WEIGHTS}", bomb, Content_Encoding="gzip")
    with pytest.raises(SourceUnavailable, match="gzip"):
        await fetch(f"{server.url}/support")


@pytest.mark.timeout(20)
async def test_a_fetch_that_hangs_can_be_cancelled(server: WebServer, fetch: Fetch) -> None:
    reached, leave = threading.Event(), threading.Event()

    def hang(handler: Handler) -> None:
        handler.send(200, b"some", {"Content-Length": "5000"})
        reached.set()
        leave.wait(15)

    server.answers[f"/support/{WEIGHTS}"] = hang
    task = asyncio.create_task(fetch(f"{server.url}/support"))
    assert await asyncio.to_thread(reached.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    leave.set()


# ---- where it may not lead ---------------------------------------------------------------


@pytest.fixture
def secret() -> Iterator[WebServer]:
    """A service on another loopback address, which is not allowed."""
    with web_server("127.0.0.2") as web:
        for name, content in ADAPTER.items():
            web.file(f"/{name}", content)
        yield web


async def test_a_private_address_is_not_called(secret: WebServer, fetch: Fetch) -> None:
    with pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.2"):
        await fetch(secret.url)
    assert secret.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_private_address_is_not_followed(
    server: WebServer, secret: WebServer, fetch: Fetch, status: int
) -> None:
    server.redirect(f"/support/{CONFIG}", f"{secret.url}/{CONFIG}", status)
    with pytest.raises(AddressNotAllowed):
        await fetch(f"{server.url}/support")
    assert secret.asked == []


async def test_a_redirect_may_only_lead_to_what_the_rules_allow(
    server: WebServer, fetch: Fetch
) -> None:
    with web_server() as other:
        for name, content in ADAPTER.items():
            other.file(f"/{name}", content)
            server.redirect(f"/support/{name}", f"{other.url}/{name}?signed=1")
        with pytest.raises(SourceNotAllowed):
            await fetch(f"{server.url}/support", server.url)
        assert other.asked == []
        _, files = await fetch(f"{server.url}/support", server.url, other.url)
        assert files == ADAPTER


@pytest.mark.parametrize(
    "to",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "data:text/plain,{}", ""],
)
async def test_a_redirect_to_another_scheme_is_not_followed(
    server: WebServer, fetch: Fetch, to: str
) -> None:
    server.redirect(f"/support/{CONFIG}", to)
    with pytest.raises((InvalidRedirect, InvalidSource)):  # neither is retried
        await fetch(f"{server.url}/support")


async def test_redirects_come_to_an_end(server: WebServer, fetch: Fetch) -> None:
    server.redirect(f"/support/{CONFIG}", f"/support/{CONFIG}")
    with pytest.raises(InvalidRedirect, match="too many times"):
        await fetch(f"{server.url}/support")
    assert len(server.asked) < 20


@pytest.mark.parametrize(
    "host", ["localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "127.1"]
)
async def test_other_ways_to_write_loopback_are_not_called(
    server: WebServer, fetch: Fetch, host: str
) -> None:
    with pytest.raises((AddressNotAllowed, InvalidSource)) as caught:
        await fetch(f"http://{host}:{server.server_port}/support", guard=EgressGuard())
    assert server.asked == []
    if host in ("localhost", "[::1]", "[::ffff:127.0.0.1]"):
        assert isinstance(caught.value, AddressNotAllowed)


class Rebinding(AbstractResolver):
    """A name server under the attacker's control: public at first, then this machine."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self._answers.pop(0)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def rebound(server: WebServer) -> AsyncIterator[tuple[aiohttp.ClientSession, Rebinding]]:
    resolver = Rebinding("93.184.215.14", "127.0.0.1")
    connector = aiohttp.TCPConnector(
        socket_factory=GuardedSockets(EgressGuard()), resolver=resolver, use_dns_cache=False
    )
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session, resolver


async def test_a_name_that_means_another_address_later_gains_nothing(
    server: WebServer, rebound: tuple[aiohttp.ClientSession, Rebinding]
) -> None:
    session, resolver = rebound
    checked = await resolver.resolve("rebind.test")
    assert EgressGuard().allows(checked[0]["host"]), "the first look-up yields a public address"
    with pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.1"):
        await session.get(URL(f"http://rebind.test:{server.server_port}/support/{CONFIG}"))
    assert server.asked == []


KOHYA = b'{"lora_te_text_model.lora_down.weight": {"dtype": "F16"}}'
LISTING = b"""<html><body><h1>Index of /style/</h1><a href="../">../</a>
<a href="README.md">README.md</a> <a HREF='v%201.safetensors'>v 1.safetensors</a>
<a href="https://elsewhere.example.com/x.safetensors">x</a></body></html>"""


@pytest.mark.parametrize("where", ["/style", "/style/", "/style/v%201.safetensors"])
async def test_an_adapter_of_a_diffusion_model_is_told_by_its_tensors(
    server: WebServer, fetch: Fetch, where: str
) -> None:
    """Where the server lists its folder, or the file itself was named."""
    for path in ("/style", "/style/"):
        server.file(path, LISTING)
    server.file("/style/v%201.safetensors", len(KOHYA).to_bytes(8, "little") + KOHYA)
    with pytest.raises(InvalidAdapter, match=r"\.safetensors.*kohya") as caught:
        await fetch(f"{server.url}{where}")
    assert caught.value.code == "diffusion_adapter"


async def test_a_page_without_end_explains_nothing_and_is_left(
    server: WebServer, fetch: Fetch
) -> None:
    server.file("/style", b"<a href='a'>" * 400_000)
    with pytest.raises(SourceNotFound):
        await fetch(f"{server.url}/style")
