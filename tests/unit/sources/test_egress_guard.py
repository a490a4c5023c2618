"""Where the server may connect, against real sockets: only ever to an address that was checked."""

import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from registry.errors import AddressNotAllowed, HostUnknown
from registry.sources.egress_guard import EgressGuard, GuardedSyncTransport, guarded_client
from tests.support.certificate import write_certificate

LOOPBACK = (ipaddress.ip_network("127.0.0.1"),)
NAME = "hooks.example"


class Hooks(ThreadingHTTPServer):
    """Says which host it was called as; `/moved` points elsewhere."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hosts: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hooks

    def do_GET(self) -> None:
        self.server.hosts.append(self.headers["host"])
        moved = self.path == "/moved"
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/secret")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with Hooks() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Names:
    """Stands for the system's resolver: each question gets the next of its answers."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_may_be_called(address: str) -> None:
    assert EgressGuard().allows(address)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("10.1.2.3", id="private"),
        pytest.param("100.64.0.1", id="shared"),
        pytest.param("169.254.169.254", id="link-local, a cloud's metadata"),
        pytest.param("0.0.0.0", id="this host"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("::1", id="loopback 6"),
        pytest.param("::", id="this host 6"),
        pytest.param("fc00::1", id="private 6"),
        pytest.param("fe80::1%lo", id="link-local 6"),
        pytest.param("fec0::1", id="site-local 6"),
        pytest.param("ff0e::1", id="multicast 6"),
        pytest.param("::ffff:10.0.0.1", id="private, mapped"),
        pytest.param("::10.0.0.1", id="private, compatible"),
        pytest.param("2002:a00:1::", id="private, through 6to4"),
        pytest.param("64:ff9b::a00:1", id="private, through NAT64"),
        pytest.param("64:ff9b:1::a00:1", id="local NAT64"),
        pytest.param("2001:0:808:808:0:0:f5ff:fffe", id="private, through Teredo"),
    ],
)
def test_a_special_address_may_not_be_called(address: str) -> None:
    assert not EgressGuard().allows(address)


def test_a_private_address_may_be_called_where_its_network_is_allowed() -> None:
    guard = EgressGuard((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fc00::/7")))
    assert guard.allows("10.1.2.3")
    assert guard.allows("::ffff:10.1.2.3")
    assert guard.allows("64:ff9b::a01:203")
    assert guard.allows("fc00::1")
    assert not guard.allows("192.168.0.1")


def test_an_allowed_tunnel_leads_to_public_addresses_alone() -> None:
    guard = EgressGuard((ipaddress.ip_network("2001::/32"), ipaddress.ip_network("2002::/16")))
    assert guard.allows("2001:0:808:808:0:0:f7f7:f7f7")
    assert guard.allows("2002:808:808::")
    assert not guard.allows("2001:0:808:808:0:0:f5ff:fffe")
    assert not guard.allows("2002:a00:1::")


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "localhost", "::1"])
def test_the_system_s_other_spellings_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises(AddressNotAllowed):
        EgressGuard().addresses(host, 80)


@pytest.mark.parametrize("host", ["nope.invalid", "a\0b", "x" * 300])
def test_a_name_without_an_address_is_unknown(host: str) -> None:
    with pytest.raises(HostUnknown):
        EgressGuard().addresses(host, 80)


def test_of_several_addresses_only_those_that_may_be_called_are_used() -> None:
    guard = EgressGuard(resolve=Names(["10.0.0.1", "8.8.8.8", "8.8.8.8", "::1"]))
    assert guard.addresses(NAME, 443) == ["8.8.8.8"]


async def test_the_connection_goes_to_the_checked_address_with_the_original_host(
    hooks: Hooks,
) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])  # the name changes after the check
    url = f"http://{NAME}:{hooks.server_port}/"
    async with guarded_client(EgressGuard(LOOPBACK, names), timeout_seconds=5) as client:
        async with client.stream("GET", url) as response:
            connected = response.extensions["network_stream"].get_extra_info("server_addr")
        assert connected == ("127.0.0.1", hooks.server_port)
        assert response.url == url
        assert names.asked == 1
        with pytest.raises(AddressNotAllowed):
            await client.get(url)
    assert hooks.hosts == [f"{NAME}:{hooks.server_port}"]


async def test_the_next_address_is_tried_if_the_connection_is_refused(hooks: Hooks) -> None:
    allowed = (ipaddress.ip_network("127.0.0.0/8"),)
    guard = EgressGuard(allowed, Names(["127.0.0.2", "127.0.0.1"]))
    async with guarded_client(guard, timeout_seconds=5) as client:
        response = await client.get(f"http://{NAME}:{hooks.server_port}/")
    assert response.status_code == 200


async def test_no_redirect_is_followed(hooks: Hooks) -> None:
    async with guarded_client(EgressGuard(LOOPBACK), timeout_seconds=5) as client:
        response = await client.get(f"http://127.0.0.1:{hooks.server_port}/moved")
    assert response.status_code == 302
    assert len(hooks.hosts) == 1


async def test_no_proxy_of_the_environment_is_used(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{hooks.server_port}")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{hooks.server_port}")
    async with guarded_client(EgressGuard(), timeout_seconds=5) as client:
        with pytest.raises(AddressNotAllowed):
            await client.get("http://10.0.0.1/")
    assert not hooks.hosts


def test_threads_have_the_same_guard(hooks: Hooks) -> None:
    guard = EgressGuard(LOOPBACK, Names(["127.0.0.2", "127.0.0.1"]))
    with httpx.Client(transport=GuardedSyncTransport(guard)) as client:
        assert client.get(f"http://{NAME}:{hooks.server_port}/").status_code == 200
    strict = httpx.Client(transport=GuardedSyncTransport(EgressGuard()))
    with strict as client, pytest.raises(AddressNotAllowed):
        client.get(f"http://127.0.0.1:{hooks.server_port}/")
    assert hooks.hosts == [f"{NAME}:{hooks.server_port}"]


@pytest.fixture
def tls_hooks(hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """The same behind TLS, with a certificate for the name that this process trusts."""
    certificate = write_certificate(tmp_path, NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    hooks.socket = context.wrap_socket(hooks.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return hooks


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(
    tls_hooks: Hooks,
) -> None:
    guard = EgressGuard(LOOPBACK, Names(["127.0.0.1"]))
    async with guarded_client(guard, timeout_seconds=5) as client:
        response = await client.get(f"https://{NAME}:{tls_hooks.server_port}/")
        assert response.status_code == 200
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await client.get(f"https://other.example:{tls_hooks.server_port}/")
    assert tls_hooks.hosts == [f"{NAME}:{tls_hooks.server_port}"]
