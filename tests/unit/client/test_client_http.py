"""The Python client against a scripted server, whose responses may be wrong."""

import ssl
from collections.abc import Iterator

import httpx
import pytest

from adaptry.client import (
    ApiError,
    Client,
    Conflict,
    InvalidServer,
    NoAnswer,
    TooManyRequests,
    UnexpectedAnswer,
)
from adaptry.client.client import CommandClient
from adaptry.client.transport.http import Options
from adaptry.client.transport.sse import EventReader
from tests.support.servers.scripted_http import Answers, answering


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


@pytest.fixture(params=[Client, CommandClient])
def kind(request: pytest.FixtureRequest) -> type[Client]:
    """Over httpx, and over `http.client`: there is no difference to be seen."""
    found: type[Client] = request.param
    return found


@pytest.fixture
def client(server: Answers, kind: type[Client]) -> Iterator[Client]:
    with kind(server.url) as client:
        yield client


PIN = {"reference": "upper:1", "tier": "gpu", "expires_at": None}


def test_a_reference_is_quoted_in_a_path(server: Answers, client: Client) -> None:
    for _ in range(2):
        server.will_say(200, PIN)
    client.cache.unpin("upper@prod")
    client.cache.unpin("upper:3/../x?y#z")
    assert server.asked[0][1] == "/api/v1/cache/pins/upper@prod"
    assert server.asked[1][1] == "/api/v1/cache/pins/upper:3%2F..%2Fx%3Fy%23z"


def test_null_is_sent_only_where_it_has_a_meaning(server: Answers, client: Client) -> None:
    for _ in range(2):
        server.will_say(409, {"code": "alias_moved"})
    with pytest.raises(Conflict):
        client.aliases.set("upper", version=2)
    with pytest.raises(Conflict):
        client.aliases.set("upper", version=2, expected_version=None)
    assert [body for _, _, body in server.asked] == [
        {"version": 2},
        {"version": 2, "expected_version": None},
    ]


def test_problem_details_become_one_line_with_their_code(server: Answers, client: Client) -> None:
    problem = {"title": "Too many", "detail": "come again", "code": "queue_full", "more": 1}
    server.will_say(429, problem, retry_after="7")
    with pytest.raises(TooManyRequests, match=r"^come again \[queue_full\]$") as refused:
        client.cache.show()
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 7.0)
    assert refused.value.problem["more"] == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"\xff", b'{"detail": 3, "code": []}'])
def test_an_error_of_another_server_has_its_status(
    server: Answers, client: Client, body: bytes
) -> None:
    server.will_say(418, body)
    with pytest.raises(ApiError, match="HTTP 418") as refused:
        client.cache.show()
    assert refused.value.code == ""


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"items": 3}', b'{"items": [3]}'])
def test_another_server_is_recognised(server: Answers, client: Client, body: bytes) -> None:
    server.will_say(200, body)
    server.will_say(200, body)
    with pytest.raises(UnexpectedAnswer, match="does not speak Adaptry's API"):
        client.cache.show()
    with pytest.raises(UnexpectedAnswer, match="does not speak Adaptry's API"):
        list(client.cache.pins())


def test_unknown_fields_of_a_newer_server_are_kept(server: Answers, client: Client) -> None:
    server.will_say(200, {**PIN, "news": [1]})
    assert client.cache.unpin("upper").model_dump(mode="json")["news"] == [1]


def test_readiness_depends_on_the_status_only(server: Answers, client: Client) -> None:
    server.will_say(503, {"status": "not_ready"})
    server.will_say(200, {"status": "ready"})
    assert [client.is_ready(), client.is_ready()] == [False, True]


def test_an_unreachable_server_is_a_one_line_error(kind: type[Client]) -> None:
    with kind("http://127.0.0.1:1") as unreachable:
        assert not unreachable.is_ready()
        with pytest.raises(NoAnswer, match=r"^no answer from http://127\.0\.0\.1:1: .*refused"):
            unreachable.cache.show()


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    server: Answers, kind: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.will_say(200, PIN)
    with kind(server.url) as client:
        assert client.cache.unpin("upper").reference == "upper:1"


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://[", "http://x:port", "http://x:65536"]
)
def test_a_malformed_url_is_refused(url: str, kind: type[Client]) -> None:
    with pytest.raises(InvalidServer, match="no server's URL"):
        kind(url)


def test_a_key_that_no_header_can_hold_is_refused(kind: type[Client]) -> None:
    for key in ("a\r\nb: c", "schlüssel"):
        with pytest.raises(InvalidServer, match="printable"):
            kind("http://127.0.0.1:1", api_key=key)


STREAM = b": hi\r\nretry: 50\nid: 1\ndata: a\r\rid: 2\n\n"
STREAM += b"data:b\ndata:  c\xe2\x80\xa8\nid: 3\n\ndata: cut"


@pytest.mark.parametrize("length", [1, 2, 3, 7, 1000])
def test_events_are_parsed_at_any_chunk_size(length: int) -> None:
    reader = EventReader()
    chunks = [STREAM[n : n + length] for n in range(0, len(STREAM), length)]
    found = [data for chunk in chunks for data in reader.feed(chunk)]
    assert found == ["a", "b\n c\u2028"]
    assert reader.headers()["last-event-id"] == "3"
    reader.connected()
    assert reader.pause_seconds(None) == 0.05
    assert list(reader.feed(b"data: new\n\n")) == ["new"]


@pytest.mark.parametrize("length", [65_536, 2_000_000])
def test_a_long_event_takes_no_more_than_its_bytes(length: int) -> None:
    """A line was searched again from each of its bytes: 40 kB of it took 20 s, this one hours."""
    reader, text = EventReader(), "x" * 1_000_000
    stream = f"data: {text}\n\n".encode()
    chunks = [stream[n : n + length] for n in range(0, len(stream), length)]
    assert [data for chunk in chunks for data in reader.feed(chunk)] == [text]


def test_an_event_that_was_cut_off_is_asked_for_again() -> None:
    reader = EventReader()
    reader.connected()
    assert list(reader.feed(b"id: 6\ndata: a\n\nid: 7\ndata: cu")) == ["a"]
    reader.connected()
    assert list(reader.feed(b": still there\n\n")) == []
    assert reader.headers()["last-event-id"] == "6"


def test_a_stream_is_given_up_after_a_timeout() -> None:
    reader = EventReader(give_up_seconds=0)
    reader.connected()
    with pytest.raises(NoAnswer):
        reader.pause_seconds(NoAnswer("http://x", "gone"))


@pytest.mark.parametrize(("url", "reads"), [("http://a:1", False), ("https://a:1", True)])
def test_certificates_are_read_only_where_they_are_used(url: str, reads: bool) -> None:
    """They are most of a command's own CPU time. Without any, none would be trusted."""
    context = httpx.create_ssl_context(Options(url).client_arguments()["verify"])
    assert (context.cert_store_stats()["x509_ca"] > 0) is reads
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
