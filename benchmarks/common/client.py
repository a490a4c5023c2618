"""Streaming client that records when each token arrived."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

PROMPT_TOKENS = 8
FIRST_TOKEN_ID, LAST_TOKEN_ID = 10, 250

_chance = random.Random(0)

Likeliest = dict[str, float]
"""Log probabilities by token."""


@dataclass
class Answer:
    """One request. Times are seconds of one monotonic clock.

    A time in `tokens` may stand for several tokens: vLLM joins what was not sent in time.
    """

    model: str
    asked: float
    max_tokens: int
    tokens: list[float] = field(default_factory=list)
    text: str = ""
    error: str | None = None
    found: str | None = None  # where our side had the adapter
    version: str | None = None  # that our side served
    replica: str | None = None  # of our side, that answered
    is_whole: bool = False  # up to the end of its stream, which may be an error's

    @property
    def first_token_seconds(self) -> float:
        """Infinite if there was none."""
        return self.tokens[0] - self.asked if self.tokens else float("inf")

    @property
    def tokens_per_time(self) -> float:
        return self.max_tokens / len(self.tokens) if self.tokens and not self.error else 1.0

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.tokens)]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Client:
    """Client of one server.

    `seed` numbers the prompts, so that two sides get the same ones. Prompts of more than
    `PROMPT_TOKENS` are new ones each time: no prefix cache finds them.
    """

    def __init__(
        self, base_url: str, session: aiohttp.ClientSession, prompt_tokens: int = PROMPT_TOKENS
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._base_url = base_url
        self._url = f"{base_url}/v1/completions"
        self._session = session

    async def ask(
        self, model: str, *, max_tokens: int, seed: int = 0, prompt_tokens: int | None = None
    ) -> Answer:
        """Generate greedily, with exactly this length. Errors are recorded in the result.

        `prompt_tokens`: by default, this client's.
        """
        body = {
            "model": model,
            "prompt": _prompt(prompt_tokens or self._prompt_tokens, seed),
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        answer = Answer(model, time.perf_counter(), max_tokens)
        try:
            async with self._session.post(self._url, json=body) as response:
                if response.status != 200:
                    answer.error = (await response.text())[:300]
                    return answer
                answer.found = response.headers.get("x-adaptry-cache")
                answer.version = response.headers.get("x-adaptry-version")
                answer.replica = response.headers.get("x-adaptry-replica")
                async for line in response.content:
                    if line.startswith(b'data: {"error"'):
                        answer.error = line.decode()[:300]
                    elif line.startswith(b"data: {"):
                        answer.tokens.append(time.perf_counter())
                        answer.text += line.decode()
                    answer.is_whole = answer.is_whole or line.startswith(b"data: [DONE]")
        except aiohttp.ClientError as error:
            answer.error = repr(error)
        return answer

    async def likeliest(self, model: str, prompt: Sequence[int]) -> Likeliest:
        """Of the next token. Raises RuntimeError if there is no answer."""
        body = {
            "model": model,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 20,  # as many as vLLM gives
            "return_tokens_as_token_ids": True,
        }
        async with self._session.post(self._url, json=body) as response:
            if response.status != 200:
                raise RuntimeError(f"{model}: {await response.text()}")
            (choice,) = (await response.json())["choices"]
        found: Likeliest = choice["logprobs"]["top_logprobs"][0]
        return found

    async def pin(self, model: str) -> bool:
        """False if there is no HTTP route for pins, as on stock vLLM."""
        pins = f"{self._base_url}/api/v1/cache/pins"
        async with self._session.post(pins, json={"reference": model}) as response:
            return response.status == 201

    async def unpin(self, model: str) -> None:
        async with self._session.delete(f"{self._base_url}/api/v1/cache/pins/{model}"):
            return

    async def residents(self) -> dict[str, list[str]]:
        """Versions by tier, each in LRU order: `{"gpu": […], "host": […]}`."""
        async with self._session.get(f"{self._base_url}/api/v1/cache") as response:
            cache = await response.json()
        return {tier: [each["reference"] for each in cache[tier]] for tier in ("gpu", "host")}

    async def replicas(self) -> list[str]:
        """The names of the replicas whose engine is up."""
        async with self._session.get(f"{self._base_url}/api/v1/cache") as response:
            cache = await response.json()
        return [each["name"] for each in cache["replicas"] if each["engine_up"]]

    async def evict(self, reference: str) -> None:
        """Evict from both tiers. Raises RuntimeError if it is in use."""
        body = {"reference": reference}
        async with self._session.post(f"{self._base_url}/api/v1/cache/evict", json=body) as done:
            if done.status != 200:
                raise RuntimeError(await done.text())

    async def counters(self) -> dict[str, float]:
        """Every sample on /metrics."""
        async with self._session.get(f"{self._base_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def _prompt(tokens: int, seed: int) -> list[int]:
    if tokens > PROMPT_TOKENS:
        return _chance.choices(range(FIRST_TOKEN_ID, LAST_TOKEN_ID), k=tokens)
    return same_prompt(tokens, seed)


def same_prompt(tokens: int, seed: int) -> list[int]:
    """The same one each time, unlike those of other seeds."""
    span = LAST_TOKEN_ID - FIRST_TOKEN_ID
    return [FIRST_TOKEN_ID + (seed * 31 + n * 7) % span for n in range(tokens)]


@asynccontextmanager
async def client(base_url: str, prompt_tokens: int = PROMPT_TOKENS) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as session:
        yield Client(base_url, session, prompt_tokens)


async def keep_asking(
    asking: Client, models: Iterable[str], *, max_tokens: int, until: asyncio.Event
) -> list[Answer]:
    """Sequential requests, each for the next model, until the event; the last one completes."""
    answers: list[Answer] = []
    turns = itertools.cycle(models)
    while not until.is_set():
        answers.append(await asking.ask(next(turns), max_tokens=max_tokens, seed=len(answers)))
    return answers


async def at_times(
    asking: Client, arrivals: Sequence[tuple[float, str]], *, max_tokens: int
) -> list[Answer]:
    """Open loop: sends each (seconds from now, model) at its time, independent of the others."""
    started = time.perf_counter()

    async def one(number: int, at: float, model: str) -> Answer:
        await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
        return await asking.ask(model, max_tokens=max_tokens, seed=number)

    return await asyncio.gather(*(one(n, at, model) for n, (at, model) in enumerate(arrivals)))
