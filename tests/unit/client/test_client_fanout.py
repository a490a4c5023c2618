"""`client.fanout_stream` of both clients, against a scripted server and the route itself."""

import json
from collections.abc import Iterator
from contextlib import aclosing, closing
from typing import Any

import httpx
import pytest

from adaptry.client import ApiError, AsyncClient, Client, NoAnswer, UnexpectedAnswer
from adaptry.client.fanout_event import FanoutEvent
from engine.fanout.schemas import FanoutEvent as ServedEvent
from tests.support.servers.scripted_http import Answers, answering

EVENTS: list[dict[str, Any]] = [
    {"name": "size", "status": 200, "version": "size:1", "invocation": "found"},
    {"name": "size", "chunk": {"choices": [{"text": "ü"}]}},
    {"name": "nobody", "status": 404, "error": {"code": "unknown_adapter"}},
]
DONE = b"data: [DONE]\n\n"


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


def test_each_event_is_given_until_the_end(server: Answers) -> None:
    server.will_say(200, lines(*EVENTS) + DONE, content_type="text/event-stream")
    with Client(server.url) as client:
        stream = client.fanout_stream(["size", "nobody"], prompt="a", options={"seed": 1})
        found = [event.model_dump(exclude_none=True) for event in stream]
    assert found == EVENTS
    assert server.asked == [
        (
            "POST",
            "/v1/fanout",
            {"models": ["size", "nobody"], "prompt": "a", "seed": 1, "stream": True},
        )
    ]


async def test_the_other_client_gives_the_same(server: Answers) -> None:
    server.will_say(200, lines(*EVENTS) + DONE, content_type="text/event-stream")
    async with AsyncClient(server.url) as client:
        stream = client.fanout_stream(["size"], messages=[{"role": "user", "content": "a"}])
        found = [event.model_dump(exclude_none=True) async for event in stream]
    assert found == EVENTS


async def test_a_stream_that_breaks_off_is_no_answer(server: Answers) -> None:
    for _ in range(2):
        server.will_say(200, lines(*EVENTS), content_type="text/event-stream")
    with Client(server.url) as client, pytest.raises(NoAnswer, match="before its end"):
        list(client.fanout_stream(["size"], prompt="a"))
    async with AsyncClient(server.url) as other:
        with pytest.raises(NoAnswer, match="before its end"):
            _ = [event async for event in other.fanout_stream(["size"], prompt="a")]


async def test_a_refusal_is_raised_and_not_tried_again(server: Answers) -> None:
    for _ in range(2):
        server.will_say(503, {"error": {"message": "no", "code": "engine_unavailable"}})
    server.will_say(200, b'data: {"no": "name"}\n\n' + DONE, content_type="text/event-stream")
    with Client(server.url) as client:
        with pytest.raises(ApiError, match="no"):
            list(client.fanout_stream(["size"], prompt="a"))
        async with AsyncClient(server.url) as other:
            with pytest.raises(ApiError, match="no"):
                _ = [event async for event in other.fanout_stream(["size"], prompt="a")]
        assert len(server.asked) == 2
        with pytest.raises(UnexpectedAnswer):
            list(client.fanout_stream(["size"], prompt="a"))


class Endless(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A stream that never ends by itself."""

    def __init__(self) -> None:
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield lines(EVENTS[1])

    async def __aiter__(self) -> Any:
        while True:
            yield lines(EVENTS[1])

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_reader_that_stops_closes_the_connection() -> None:
    endless = [Endless(), Endless()]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=endless.pop(0))

    one, two = endless
    with Client(transport=httpx.MockTransport(answer)) as client:
        with closing(client.fanout_stream(["size"], prompt="a")) as stream:
            assert next(stream).chunk
        assert one.is_closed
    async with AsyncClient(transport=httpx.MockTransport(answer)) as other:
        async with aclosing(other.fanout_stream(["size"], prompt="a")) as events:
            assert (await anext(events)).chunk
        assert two.is_closed


def test_an_event_has_what_the_route_says() -> None:
    assert set(FanoutEvent.model_fields) == set(ServedEvent.model_fields)
