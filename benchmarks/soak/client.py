"""Client process of a soak: sends requests in bursts, and records the responses.

    python -m benchmarks.soak.client URL BASE SEED REQUESTS_PER_SECOND

Standard input has a line of JSON for each adapter, and again for each new version:
`{"name": …, "versions": 3}`. Standard output gets one `Answer` per line. It ends with its input.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any

import httpx

from benchmarks.soak.answers import Answer, Outcome
from demo.tasks import prompt_for

ALIASES = ("default", "prod")
WORDS = ("hello", "window", "garden")  # short enough that every adapter has them right
MAX_TOKENS = 20
LARGEST_BURST = 8
IDLE_SECONDS = 2.0  # of a connection; the server ends it after 5, perhaps as a request is sent
VERSIONS_BACK = 8  # what is asked for by number is one of the newest; some are retired
PATIENCE_SECONDS = 120.0
PATHS = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "generate": "/generate",
}
BASE_SHARE, NUMBER_SHARE, USER_SHARE, CANCELLED_SHARE = 0.05, 0.2, 0.5, 0.1
GONE = ("version_retired", "version_purged")
LONG_TOKENS = 150  # of a request that is cancelled, unless it was faster


class Asker:
    """`names` are ordered by popularity."""

    def __init__(self, http: httpx.AsyncClient, base: str, chance: random.Random) -> None:
        self._http = http
        self._base = base
        self._random = chance
        self.names: list[str] = []
        self.versions: dict[str, int] = {}
        self._weights: list[float] = []

    def learn(self, name: str, versions: int) -> None:
        if name not in self.versions:
            self.names.append(name)
            self._weights = list(accumulate(1 / rank for rank in range(1, len(self.names) + 1)))
        self.versions[name] = versions

    def _zipf(self) -> str:
        """The name of rank r is requested 1/r as often as the first."""
        return self._random.choices(self.names, cum_weights=self._weights)[0]

    def _wish(self) -> Answer:
        """The next request, as a response yet to be filled in."""
        chance = self._random
        kind, word = chance.choice(tuple(PATHS)), chance.choice(WORDS)
        user = f"user-{chance.randrange(1000)}" if chance.random() < USER_SHARE else None
        empty = Answer("failed", kind, "", None, 0, user, word, 0.0, 0.0)
        if chance.random() < BASE_SHARE:
            return empty
        name = self._zipf()
        if chance.random() < NUMBER_SHARE:
            newest = self.versions[name]
            oldest = max(1, newest - VERSIONS_BACK)
            return replace(empty, name=name, asked=chance.randint(oldest, newest))
        return replace(empty, name=name, alias=chance.choice(ALIASES))

    def _body(self, wish: Answer, *, streamed: bool, cancelled: bool) -> dict[str, Any]:
        model = wish.name or self._base
        if wish.alias is None and wish.name:
            model = f"{wish.name}:{wish.asked}"
        elif wish.alias not in (None, "default"):
            model = f"{wish.name}@{wish.alias}"
        body = {"model": model, "max_tokens": MAX_TOKENS, "temperature": 0}
        if wish.kind == "chat":
            body["messages"] = [{"role": "user", "content": wish.word}]
        else:
            body["prompt"] = prompt_for(wish.word)
        if wish.kind != "generate":
            body["stream"] = streamed
        if cancelled:
            body |= {"max_tokens": LONG_TOKENS, "ignore_eos": True, "stream": True}
        return body

    async def ask(self) -> Answer:
        chance, wish = self._random, self._wish()
        cancelled = bool(wish.name) and chance.random() < CANCELLED_SHARE
        if cancelled and wish.kind == "generate":
            wish = replace(wish, kind="completions")
        streamed = cancelled or (wish.kind != "generate" and chance.random() < 0.5)
        body = self._body(wish, streamed=streamed, cancelled=cancelled)
        if not cancelled:
            return await self._tell(wish, body, PATIENCE_SECONDS, None)
        return await self._tell(wish, body, chance.expovariate(20), chance.randrange(6))

    async def _tell(
        self, wish: Answer, body: dict[str, Any], patience_seconds: float, pieces: int | None
    ) -> Answer:
        """Disconnects after `pieces` of the response, or after its timeout."""
        headers = {"x-adaptry-user": wish.user} if wish.user else {}
        path = PATHS[wish.kind]
        answer = replace(wish, begin=time.monotonic(), end=float("inf"))
        stream = self._http.stream("POST", path, json=body, headers=headers)
        try:
            async with asyncio.timeout(patience_seconds), stream as response:
                answer = _record_begin(answer, response)
                if pieces is not None:
                    return await _left_early(answer, response, pieces)
                content = (await response.aread()).decode()
                return _record_end(answer, content, streamed=bool(body.get("stream")))
        except TimeoutError:
            outcome: Outcome = "failed" if pieces is None else "cancelled"
            return replace(answer, outcome=outcome, problem="stuck", end=_now(answer))
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            return replace(answer, outcome="failed", problem=repr(error), end=_now(answer))


def _now(answer: Answer) -> float:
    return min(answer.end, time.monotonic())


def _record_begin(wish: Answer, response: httpx.Response) -> Answer:
    """Record the first byte: by now the request was resolved."""
    served = response.headers.get("x-adaptry-version", "")
    return replace(
        wish,
        outcome="answered" if response.status_code == 200 else "failed",
        end=time.monotonic(),
        served=served,
        version=int(served.rpartition(":")[2] or 0),
        cache=response.headers.get("x-adaptry-cache", ""),
        problem="" if response.status_code == 200 else f"HTTP {response.status_code}",
    )


def _record_end(wish: Answer, content: str, *, streamed: bool) -> Answer:
    if wish.outcome != "answered":
        is_gone = wish.problem == "HTTP 404" and any(f'"{code}"' in content for code in GONE)
        outcome: Outcome = "refused" if is_gone else wish.outcome
        return replace(wish, outcome=outcome, problem=f"{wish.problem} {content[:300]}")
    if streamed:
        return replace(wish, text="".join(map(_piece, content.splitlines())))
    body = json.loads(content)
    if wish.kind == "generate":
        return replace(wish, text=body["text"][0])
    return replace(wish, text=_text(body["choices"][0]))


async def _left_early(wish: Answer, response: httpx.Response, pieces: int) -> Answer:
    """Disconnect after some pieces, or at the first byte."""
    if wish.outcome != "answered":
        return _record_end(wish, (await response.aread()).decode(), streamed=False)
    text, left = "", pieces
    async for line in response.aiter_lines():
        if left == 0:
            break
        text, left = text + _piece(line), left - bool(line)
    return replace(wish, outcome="cancelled", text=text)


def _piece(line: str) -> str:
    """The text of one line of Server-Sent Events. Raises KeyError for an error event."""
    content = line.removeprefix("data: ")
    if not content or content == "[DONE]":
        return ""
    return _text(json.loads(content)["choices"][0])


def _text(choice: dict[str, Any]) -> str:
    said = choice.get("message") or choice.get("delta") or choice
    return said.get("text") or said.get("content") or ""


def connected(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=64, keepalive_expiry=IDLE_SECONDS
    )
    return httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False)


async def _run(url: str, base: str, seed: int, per_second: float) -> None:
    async with connected(url) as http:
        chance = random.Random(seed)
        asker = Asker(http, base, chance)
        learning = asyncio.create_task(_learn(asker))
        while not learning.done():
            size = chance.randint(1, LARGEST_BURST) if asker.names else 0
            began = time.monotonic()
            for answer in await asyncio.gather(*(asker.ask() for _ in range(size))):
                print(json.dumps(asdict(answer)), flush=True)
            rest = max(size, 1) / per_second - (time.monotonic() - began)
            await asyncio.wait([learning], timeout=max(rest, 0.01))
        learning.result()


async def _learn(asker: Asker) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async for line in reader:
        asker.learn(**json.loads(line))


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
