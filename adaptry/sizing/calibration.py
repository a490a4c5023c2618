"""Calibration: the times of steps, prompts, loads and copies, measured on a running server."""

import asyncio
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptry.client.errors import InvalidRequest
from adaptry.client.transport.http import parse_success
from adaptry.client.transport.sse import EventReader
from adaptry.sizing.step_times import (
    Answer,
    line_of,
    longer_steps,
    per_adapter_seconds,
    prompt_seconds,
    whole_steps,
)
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace
from engine.simulation.shared_engine import Costs

if TYPE_CHECKING:
    import httpx

TOGETHER = (1, 2, 3, 4, 8)
TOKENS = 32
ROUNDS, LEAST_ROUNDS = 6, 2
ROUNDS_SECONDS = 20.0  # after which no further round begins
ALONE, ALONE_TOKENS = 100, 2  # short prompts, one after another
MOST_PAUSE = 8  # steps between two prompts beside a stream: some are without any
PROMPTS = (8, 16, 32, 64, 128, 256)  # tokens
SHORT = PROMPTS[0]  # as many tokens as the most requests in `TOGETHER`
LONGER_EVERY = 5  # short prompts
ADAPTERS = 16
_SOONEST = 0.05  # of the first tokens: nothing comes sooner than the engine can
_TOKEN_IDS = (10, 100)  # every vocabulary has them
_DONE = "[DONE]"
_Steps = Sequence[tuple[float, float]]  # the seconds of a step of so many requests


@dataclass(frozen=True, slots=True)
class Measured:
    """`values`: costs by their names; `steps`: seconds by how many run for one adapter;
    `in_engine_seconds`: of the first token of a short prompt alone, what its step and prompt take;
    `first_tokens`: of `ALONE` such, as the client saw them; `asked`: how many requests it took;
    `per_adapter_seconds`: what each but the first adds to a step; `prompt_steps`: by how much
    longer a step is with more tokens of a prompt than with `SHORT`.
    """

    values: dict[str, float]
    steps: Sequence[tuple[float, float]]
    in_engine_seconds: float
    first_tokens: Sequence[float]
    asked: int
    per_adapter_seconds: float = 0.0
    prompt_steps: _Steps = ()

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
        steps, several = await self._steps()
        alone, per_request = line_of(steps)
        first_tokens = await self._first_tokens(resident)
        shorts, longer = first_tokens[SHORT], longer_steps(first_tokens)
        length, more = longer[-1]
        per_token = more / (length - SHORT)
        values = {
            "step_seconds": alone,
            "step_seconds_per_request": per_request,
            "prefill_seconds": 0.0,
            "prefill_seconds_per_token": per_token,
        }
        engine = Costs(alone, per_request, 0.0, 0.0, 0.0, prefill_seconds_per_token=per_token)
        engine = replace(engine, steps=tuple(steps), prompt_steps=tuple(longer))
        soonest = sorted(shorts)[int(_SOONEST * len(shorts))]
        computed = engine.step(1) + engine.prefill(1, SHORT, 0)
        beside = await self._prompt_seconds(resident, engine.step(1))
        beside -= engine.step(2) + engine.prefill(1, SHORT, 1) - engine.step(1)
        values["prefill_seconds"] = fixed = max(min(beside, soonest - computed), 0.0)
        in_engine, others = min(computed + fixed, soonest), per_adapter_seconds(steps, several)
        return Measured(values, steps, in_engine, shorts, self._asked, others, longer)

    async def touch_adapters(self) -> None:
        """One request for each, so that the server records loads and copies."""
        for adapter in self._adapters:
            await self._ask(adapter, SHORT, tokens=1)

    async def _steps(self) -> tuple[_Steps, _Steps]:
        """Of so many requests together: for one adapter, and each for its own. In turns: what the
        machine does besides is in all.

        Where there are fewer slots than adapters, they never run together: that says nothing.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        alike = {count: list[float]() for count in TOGETHER}
        apart = {count: list[float]() for count in TOGETHER if 1 < count <= len(self._adapters)}
        for turn in range(ROUNDS):
            if turn >= LEAST_ROUNDS and clock() - began > ROUNDS_SECONDS:
                break
            for count, times in alike.items():
                times.extend(await self._whole_steps([self._adapters[-1]] * count))
            for count, times in apart.items():
                times.extend(await self._whole_steps(self._adapters[-count:]))
            apart = {count: times for count, times in apart.items() if times}
        if not all(alike.values()):
            raise CommandError(
                f"{self._adapters[-1]} answered with one token at most: nothing to time"
            )
        return _means(alike), _means(apart)

    async def _whole_steps(self, adapters: Sequence[str]) -> list[float]:
        """Of one request for each of them."""
        return whole_steps(await asyncio.gather(*(self._ask(each, SHORT) for each in adapters)))

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

    async def _first_tokens(self, adapter: str) -> dict[int, list[float]]:
        """Of prompts by their lengths, as many of them as the model takes, one after another."""
        found = {SHORT: list[float]()}
        for length in PROMPTS[1:]:
            try:
                await self._ask(adapter, length, tokens=ALONE_TOKENS)  # its first takes longer
            except InvalidRequest:  # longer than the model's context
                break
            found[length] = []
        if len(found) == 1:
            raise CommandError(f"{adapter} takes no prompt of {PROMPTS[1]} tokens")
        for turn in range(ALONE):
            for length in found if turn % LONGER_EVERY == 0 else (SHORT,):
                answer = await self._ask(adapter, length, tokens=ALONE_TOKENS)
                found[length].append(answer.first_token_seconds)
        return found

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


def _means(times: Mapping[int, Sequence[float]]) -> _Steps:
    return [(count, statistics.fmean(each)) for count, each in times.items()]
