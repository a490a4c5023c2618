"""Calibration: the times of steps, prompts, loads and copies, measured on a running server."""

import asyncio
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptry.client.errors import InvalidRequest
from adaptry.client.transport.http import parse_success
from adaptry.client.transport.sse import EventReader
from adaptry.sizing.step_times import Answer, line_of, prompt_seconds, whole_steps
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace
from engine.simulation.shared_engine import Costs

if TYPE_CHECKING:
    import httpx

TOGETHER = (1, 2, 3, 4, 8)
TOKENS = 32
ROUNDS, LEAST_ROUNDS = 6, 2
ROUNDS_SECONDS = 15.0  # after which no further round begins
ALONE, ALONE_TOKENS = 100, 2  # short prompts, one after another
MOST_PAUSE = 8  # steps between two prompts beside a stream: some are without any
SHORT, LONG = 8, 256
ADAPTERS = 16
_SOONEST = 0.05  # of the first tokens: nothing comes sooner than the engine can
_TOKEN_IDS = (10, 100)  # every vocabulary has them
_DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Measured:
    """`values`: costs by their names; `steps`: seconds by how many run; `in_engine_seconds`: of the
    first token of a short prompt alone, what its step and prompt take; `first_tokens`: of `ALONE`
    such, as the client saw them; `asked`: how many requests it took.
    """

    values: dict[str, float]
    steps: Sequence[tuple[float, float]]
    in_engine_seconds: float
    first_tokens: Sequence[float]
    asked: int

    def overheads(self, trace: Trace) -> list[float]:
        """What HTTP, tokenizing and the server's process take, of each request alone: as the server
        recorded them, or as the client saw them if it did not.
        """
        recorded = [
            each.first_token_seconds
            for each in trace.requests
            if (each.prompt_tokens, each.generated_tokens) == (SHORT, ALONE_TOKENS)
            and each.first_token_seconds is not None
        ][-len(self.first_tokens) :]
        found = recorded if len(recorded) > len(self.first_tokens) // 2 else self.first_tokens
        return [max(each - self.in_engine_seconds, 0.0) for each in found]


class Calibration:
    """Asks while others may ask too: what they cost is measured with it."""

    def __init__(self, http: "httpx.AsyncClient", adapters: Sequence[str], seed: int = 0) -> None:
        """`adapters`: references that are served. Raises CommandError if there is none."""
        if not adapters:
            raise CommandError("this server serves no adapters: see `adaptry adapter add`")
        self._http = http
        self._adapters = adapters[:ADAPTERS]
        self._chance = random.Random(seed)
        self._asked = 0

    async def measure(self) -> Measured:
        """Raises CommandError."""
        await self.touch_adapters()
        resident = self._adapters[-1]
        await self._ask(resident, SHORT)
        steps = await self._steps(resident)
        alone, per_request = line_of(steps)
        shorts, long, length = await self._first_tokens(resident)
        per_token = max((long - statistics.median(shorts)) / (length - SHORT), 0.0)
        values = {
            "step_seconds": alone,
            "step_seconds_per_request": per_request,
            "prefill_seconds": 0.0,
            "prefill_seconds_per_token": per_token,
        }
        engine = Costs(alone, per_request, 0.0, 0.0, 0.0, steps=tuple(steps))
        engine = replace(engine, prefill_seconds_per_token=per_token)
        soonest = sorted(shorts)[int(_SOONEST * len(shorts))]
        computed = engine.step(1) + engine.prefill(1, SHORT, 0)
        beside = await self._prompt_seconds(resident, engine.step(1))
        beside -= engine.step(2) + engine.prefill(1, SHORT, 1) - engine.step(1)
        values["prefill_seconds"] = fixed = max(min(beside, soonest - computed), 0.0)
        return Measured(values, steps, min(computed + fixed, soonest), shorts, self._asked)

    async def touch_adapters(self) -> None:
        """One request for each, so that the server records loads and copies."""
        for adapter in self._adapters:
            await self._ask(adapter, SHORT, tokens=1)

    async def _steps(self, adapter: str) -> list[tuple[float, float]]:
        """Of so many requests together. In turns: what the machine does besides is in all."""
        clock = asyncio.get_running_loop().time
        began, found = clock(), [list[float]() for _ in TOGETHER]
        for turn in range(ROUNDS):
            if turn >= LEAST_ROUNDS and clock() - began > ROUNDS_SECONDS:
                break
            for count, times in zip(TOGETHER, found, strict=True):
                asked = (self._ask(adapter, SHORT) for _ in range(count))
                times.extend(whole_steps(await asyncio.gather(*asked)))
        if not all(found):
            raise CommandError(f"{adapter} answered with one token at most: nothing to time")
        return [
            (count, statistics.fmean(each)) for count, each in zip(TOGETHER, found, strict=True)
        ]

    async def _prompt_seconds(self, adapter: str, step_seconds: float) -> float:
        """How much longer the steps of a running request are for a short prompt in one of them.

        The engine's part of a prompt: the time to its first token has the server's in it too.
        """
        streams = list[tuple[Answer, Sequence[Answer]]]()
        for _ in range(ROUNDS):
            stream = asyncio.create_task(self._ask(adapter, SHORT))
            prompts: list[Answer] = []
            try:
                while not stream.done():
                    pause = MOST_PAUSE * self._chance.random()  # ends anywhere in a step
                    await asyncio.sleep(pause * step_seconds)
                    prompts.append(await self._ask(adapter, SHORT, tokens=1))
            finally:
                stream.cancel()  # if a prompt is refused; one that is done stays as it is
            streams.append((await stream, prompts))
        return prompt_seconds(streams)

    async def _first_tokens(self, adapter: str) -> tuple[list[float], float, int]:
        """Of short prompts, of a long one, and the length of that: what the model takes."""
        length = LONG
        while length > 2 * SHORT:
            try:
                longs = await self._alone(adapter, length, ROUNDS)
            except InvalidRequest:  # longer than the model's context
                length //= 2
                continue
            return await self._alone(adapter, SHORT, ALONE), statistics.median(longs), length
        raise CommandError(f"{adapter} takes no prompt of {length} tokens")

    async def _alone(self, adapter: str, size: int, count: int) -> list[float]:
        answers = [await self._ask(adapter, size, tokens=ALONE_TOKENS) for _ in range(count)]
        return [each.first_token_seconds for each in answers]

    async def _ask(self, adapter: str, prompt_tokens: int, tokens: int = TOKENS) -> Answer:
        self._asked += 1
        return await self._send(adapter, prompt_tokens, tokens)

    async def _send(self, adapter: str, prompt_tokens: int, tokens: int) -> Answer:
        """A prompt that is in no prefix cache."""
        import httpx

        body = {
            "model": adapter,
            "prompt": [self._chance.randrange(*_TOKEN_IDS) for _ in range(prompt_tokens)],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        clock = asyncio.get_running_loop().time
        began, times = clock(), list[float]()
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                if response.is_error:
                    await response.aread()
                    parse_success(response)  # raises
                reader = EventReader()
                async for chunk in response.aiter_bytes():
                    for data in reader.feed(chunk):
                        if data != _DONE and json.loads(data).get("choices"):
                            times.append(clock())
        except httpx.HTTPError as error:
            raise CommandError(f"the calibration got no answer: {type(error).__name__}") from error
        if not times:
            raise CommandError(f"{adapter} answered without a token: nothing to time")
        return Answer(began, times)
