"""Answers of a running Adaptry: prompts' and generated tokens' log probabilities, all kinds mixed.

There are fewer slots and host places than adapters, and streams run all the while, so that weights
are loaded and evicted beside running requests.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.common.servers import Side, ready, register, running
from benchmarks.right.kinds import LARGEST_RANK

SLOTS, HOST_PLACES = 4, 6
GENERATED_TOKENS = 32
CONCURRENCY = 12


@dataclass(frozen=True)
class Answer:
    """`tokens`: of the prompt and generated ones. `logprobs`: of each of them but the first."""

    tokens: list[int]
    logprobs: list[float]


def command(base_folder: Path, adapters: Path, state: Path, arguments: Sequence[str]) -> list[str]:
    return [
        *("adaptry", "serve", str(base_folder), f"--served-model-name={base_folder.name}"),
        f"--database=sqlite+aiosqlite:///{state}/registry.db",
        *(f"--store={state}/store", f"--source-root={adapters}"),
        *(f"--max-loras={SLOTS}", f"--max-cpu-loras={HOST_PLACES}"),
        *(f"--max-lora-rank={LARGEST_RANK}", "--max-model-len=1024", "--max-num-seqs=32"),
        *arguments,
    ]


async def ask_all(
    base_folder: Path,
    adapters: Path,
    asked: Mapping[str, Sequence[Sequence[int]]],
    state: Path,
    arguments: Sequence[str],
    streams: int,
) -> tuple[dict[str, list[Answer]], dict[str, float]]:
    """Answers by model, in the order of its prompts, and what the cache did meanwhile.

    `streams`: how many run beside all the while.
    """
    with running("ours", command(base_folder, adapters, state, arguments), {}, state) as side:
        await ready(side)
        await register(side, sorted(each for each in adapters.iterdir() if each.name in asked))
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(side.base_url, timeout=timeout) as session:
            beside = [asyncio.create_task(_stream(session, asked, n)) for n in range(streams)]
            try:
                answers = await _ask_mixed(session, asked)
            finally:
                for stream in beside:
                    stream.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            return answers, await _cache_counts(session, side)


async def _ask_mixed(
    session: aiohttp.ClientSession, asked: Mapping[str, Sequence[Sequence[int]]]
) -> dict[str, list[Answer]]:
    order = [(name, number) for name, prompts in asked.items() for number in range(len(prompts))]
    random.Random(0).shuffle(order)
    turns = asyncio.Semaphore(CONCURRENCY)

    async def one(name: str, number: int) -> tuple[str, int, Answer]:
        async with turns:
            return name, number, await _ask(session, name, asked[name][number])

    answered = await asyncio.gather(*(one(name, number) for name, number in order))
    found: dict[str, list[Answer]] = {name: [] for name in asked}
    for name, _, answer in sorted(answered, key=lambda entry: entry[:2]):
        found[name].append(answer)
    return found


async def _ask(session: aiohttp.ClientSession, name: str, prompt: Sequence[int]) -> Answer:
    body = {
        "model": name,
        "prompt": list(prompt),
        "max_tokens": GENERATED_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }
    async with session.post("/v1/completions", json=body) as response:
        answer: dict[str, Any] = await response.json()
        if response.status != 200:
            raise RuntimeError(f"{name}: {response.status} {answer}")
    (choice,) = answer["choices"]
    of_prompt = [
        entry[str(token)]["logprob"]
        for token, entry in zip(prompt[1:], choice["prompt_logprobs"][1:], strict=True)
    ]
    tokens = [*prompt, *choice["token_ids"]]
    return Answer(tokens, [*of_prompt, *choice["logprobs"]["token_logprobs"]])


async def _stream(
    session: aiohttp.ClientSession, asked: Mapping[str, Sequence[Sequence[int]]], seed: int
) -> None:
    chance = random.Random(seed)
    while True:
        name = chance.choice(list(asked))
        body = {
            "model": name,
            "prompt": list(asked[name][0][:32]),
            "max_tokens": 200,
            "ignore_eos": True,
            "stream": True,
        }
        async with session.post("/v1/completions", json=body) as response:
            await response.read()


async def _cache_counts(session: aiohttp.ClientSession, side: Side) -> dict[str, float]:
    async with session.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    counts: dict[str, float] = {}
    for line in lines:
        if line.startswith("adaptry_cache_evictions_total{"):
            labels, _, value = line.partition("} ")
            tier = labels.partition('tier="')[2].partition('"')[0]
            counts[tier] = counts.get(tier, 0.0) + float(value.split()[0])
    if not counts:
        raise RuntimeError(f"nothing was evicted: {side.last_words()}")
    return counts
