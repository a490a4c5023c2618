"""Memory of request bodies: one bound for all, shares of callers, and senders that are too slow."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from engine.settings import EngineSettings
from registry.errors import BodyMemoryFull, BodyTimeout
from registry.http.body_limit import BodyLimit, BodyLimitMiddleware, BoundedBody
from registry.http.body_memory import BodyMemory

MIB = 2**20


class Reader:
    """A body's reader, slow or not."""

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.given_up = False

    def is_slow(self) -> bool:
        return self.slow

    def give_up(self) -> None:
        self.given_up = True


class Senders:
    """Who sends the next body."""

    def __init__(self, name: str = "one") -> None:
        self.name = name

    def __call__(self) -> str:
        return self.name


def test_a_caller_gets_no_more_than_it_leaves_to_others() -> None:
    senders = Senders()
    memory = BodyMemory(100, senders)
    first = memory.share(Reader())
    first.grow_to(50)
    with pytest.raises(BodyMemoryFull):
        memory.share(Reader()).grow_to(1)
    senders.name = "other"
    other = memory.share(Reader())
    other.grow_to(25)
    with pytest.raises(BodyMemoryFull):
        other.grow_to(26)
    assert (other.size_bytes, memory.free_bytes) == (25, 25)
    for share in (first, first, other):
        share.give_back()
    assert memory.free_bytes == 100


def test_slow_senders_lose_their_memory_to_others_and_only_once_it_is_needed() -> None:
    senders = Senders("slow")
    memory = BodyMemory(100, senders)
    slow, quick = Reader(slow=True), Reader()
    held = memory.share(slow)
    held.grow_to(40)
    senders.name = "quick"
    memory.share(quick).grow_to(20)
    assert not slow.given_up
    memory.share(Reader()).grow_to(15)
    assert not slow.given_up
    memory.share(Reader()).grow_to(5)
    assert slow.given_up
    assert not quick.given_up
    assert memory.free_bytes == 60
    held.give_back()
    assert memory.free_bytes == 60


def test_a_caller_takes_no_memory_from_slow_ones_that_hold_less() -> None:
    senders = Senders("slow")
    memory = BodyMemory(100, senders)
    slow = Reader(slow=True)
    memory.share(slow).grow_to(20)
    senders.name = "greedy"
    memory.share(Reader()).grow_to(40)
    with pytest.raises(BodyMemoryFull):
        memory.share(Reader()).grow_to(10)
    assert not slow.given_up


def test_a_complete_body_is_kept_however_slow_it_was() -> None:
    senders = Senders("slow")
    memory = BodyMemory(100, senders)
    slow = Reader(slow=True)
    share = memory.share(slow)
    share.grow_to(50)
    share.end_reading()
    senders.name = "other"
    with pytest.raises(BodyMemoryFull):
        memory.share(Reader()).grow_to(51)
    assert not slow.given_up


async def test_who_trickles_is_given_up_while_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.http.body_limit._SLOW_SECONDS", 0.05)
    senders = Senders("slow")
    memory = BodyMemory(100, senders)
    sent = asyncio.Event()

    async def trickle() -> Message:
        if not sent.is_set():
            sent.set()
            return {"type": "http.request", "body": b"x" * 40, "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "headers": [(b"content-length", b"50")]}
    body = BoundedBody(scope, trickle, 1000, 60, memory)
    reading = asyncio.create_task(body.all())
    await sent.wait()
    await asyncio.sleep(0.1)
    assert memory.free_bytes == 50
    senders.name = "other"
    memory.share(Reader()).grow_to(20)
    memory.share(Reader()).grow_to(20)
    with pytest.raises(BodyTimeout):
        await asyncio.wait_for(reading, 30)


# ---- through the middleware ------------------------------------------------------------------


class Held:
    """An application that holds every request until it is told to end."""

    def __init__(self, memory: BodyMemory) -> None:
        self.go_on = asyncio.Event()
        self.at_work = self.most_at_work = 0
        middleware = Middleware(
            BodyLimitMiddleware,
            limit_of=lambda scope: BodyLimit(2 * MIB, in_memory=scope["path"] != "/disk"),
            timeout_seconds=5,
            memory=memory,
        )
        routes = [Route(path, self.answer, methods=["POST"]) for path in ("/v1/x", "/disk")]
        app = Starlette(routes=routes, middleware=[middleware])
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def answer(self, request: Request) -> PlainTextResponse:
        self.at_work += len(await request.body())
        self.most_at_work = max(self.most_at_work, self.at_work)
        await self.go_on.wait()
        self.at_work -= len(await request.body())
        return PlainTextResponse("ok")

    async def until_refused(self, posts: list["asyncio.Task[httpx.Response]"], count: int) -> None:
        while sum(post.done() for post in posts) < count:
            await asyncio.sleep(0.01)

    async def until_at_work(self, size_bytes: int) -> None:
        async with asyncio.timeout(30):
            while self.at_work < size_bytes:
                await asyncio.sleep(0.01)


@pytest.fixture
async def memory() -> BodyMemory:
    return BodyMemory(8 * MIB, Senders())


@pytest.fixture
async def held(memory: BodyMemory) -> AsyncIterator[Held]:
    application = Held(memory)
    yield application
    await application.http.aclose()


async def in_chunks() -> AsyncIterator[bytes]:
    for _ in range(16):
        yield b"x" * (MIB // 16)


@pytest.mark.parametrize("content", [lambda: b"x" * MIB, in_chunks], ids=["declared", "chunked"])
async def test_many_large_bodies_take_no_more_than_the_bound(
    held: Held, memory: BodyMemory, content: Callable[[], bytes | AsyncIterator[bytes]]
) -> None:
    posts = [asyncio.create_task(held.http.post("/v1/x", content=content())) for _ in range(20)]
    await held.until_refused(posts, 16)
    refused = [post.result() for post in posts if post.done()]
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    assert {answer.json()["error"]["code"] for answer in refused} == {"body_memory_full"}
    await held.until_at_work(4 * MIB)
    held.go_on.set()
    statuses = [(await post).status_code for post in posts]
    assert statuses.count(200) == 4, "half of 8 MiB, for the one caller that there is"
    assert held.most_at_work == 4 * MIB
    assert memory.free_bytes == 8 * MIB


async def test_a_body_that_has_no_room_is_refused_before_it_is_read(held: Held) -> None:
    first = [asyncio.create_task(held.http.post("/v1/x", content=b"x" * MIB)) for _ in range(4)]
    while held.at_work < 4 * MIB:
        await asyncio.sleep(0.01)
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x" * MIB

    headers = {"content-length": str(MIB)}
    answer = await held.http.post("/v1/x", content=body(), headers=headers)
    assert (answer.status_code, read) == (503, [])
    held.go_on.set()
    assert [(await post).status_code for post in first] == [200] * 4


async def test_what_goes_to_disk_takes_none_of_it(held: Held, memory: BodyMemory) -> None:
    posts = [asyncio.create_task(held.http.post("/disk", content=b"x" * MIB)) for _ in range(6)]
    while held.at_work < 6 * MIB:
        await asyncio.sleep(0.01)
    assert memory.free_bytes == 8 * MIB
    held.go_on.set()
    assert [(await post).status_code for post in posts] == [200] * 6


def test_less_memory_than_for_one_body_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="less than one body may have"):
        EngineSettings(max_body_memory=1000, max_body_bytes=2000)
    assert EngineSettings(max_body_bytes=2 * MIB).body_memory() == 32 * MIB
