"""Load for one server: streams over raw sockets, so that the client costs as little as it can.

    python -m benchmarks.saturation.load \
        PORT MODEL,MODEL… STREAMS SECONDS TOKENS PROMPT_TOKENS SEED repeated|fresh equal|varied

`repeated`: each stream has eight prompts in turn, so that a prefix cache finds all of them;
`fresh`: no prompt begins like another one, so that it finds none.

`equal`: all answers have as many tokens, so that streams which began together end and begin
together ever after; `varied`: half as many to half as many again, so that they begin at any time.

Prints JSON: tokens counted within the time, and the seconds to each first token.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

FIRST_TOKEN_ID, LAST_TOKEN_ID = 10, 250
_EVENT = b"data: {"
_END = b"data: [DONE]"
_WARM_SECONDS = 2.0


@dataclass
class Tally:
    """`began`, `ended`: of the time that is counted, on this process's monotonic clock."""

    began: float
    ended: float
    tokens: int = 0
    requests: int = 0
    errors: int = 0
    first_token_seconds: list[float] = field(default_factory=list)

    def count(self, events: int) -> None:
        if self.began <= time.perf_counter() <= self.ended:
            self.tokens += events


def _repeated_prompt(prompt_tokens: int, seed: int) -> list[int]:
    span = LAST_TOKEN_ID - FIRST_TOKEN_ID
    return [FIRST_TOKEN_ID + (seed * 31 + n * 7) % span for n in range(prompt_tokens)]


def _fresh_prompt(prompt_tokens: int, chance: random.Random) -> list[int]:
    return chance.choices(range(FIRST_TOKEN_ID, LAST_TOKEN_ID), k=prompt_tokens)


def _lengths(tokens: int, seed: str, *, varied: bool) -> Iterator[int]:
    """Of answers; `tokens` is their mean. Eight in turn, which begin anew."""
    lengths = [tokens // 2 + round(n * tokens / 7) for n in range(8)] if varied else [tokens]
    random.Random(seed).shuffle(lengths)
    return itertools.cycle(lengths)


def _request(port: int, model: str, tokens: int, prompt: list[int]) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _stream(port: int, requests: Iterator[bytes], tally: Tally) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < tally.ended:
        asked = time.perf_counter()
        writer.write(next(requests))
        rest, first = b"", True
        while True:
            chunk = await reader.read(65536)
            if not chunk:
                tally.errors += 1
                return
            text = rest + chunk
            events = text.count(_EVENT) - rest.count(_EVENT)
            if events:
                tally.count(events)
                if first and tally.began <= asked:
                    tally.first_token_seconds.append(time.perf_counter() - asked)
                first = False
            if _END in text[-64:]:
                tally.requests += 1
                break
            rest = text[-len(_EVENT) + 1 :]
            if first and b"HTTP/1.1 4" in text[:16]:
                tally.errors += 1
                return
    writer.close()


async def run(arguments: list[str]) -> Tally:
    port, streams, tokens = int(arguments[0]), int(arguments[2]), int(arguments[4])
    models, seconds = arguments[1].split(","), float(arguments[3])
    prompt_tokens, seed = int(arguments[5]), int(arguments[6])
    began = time.perf_counter() + _WARM_SECONDS
    tally = Tally(began, began + seconds)
    work = []
    for number in range(streams):
        lengths = _lengths(tokens, f"{seed} {number}", varied=arguments[8] == "varied")
        named = (models[(number + n) % len(models)] for n in itertools.count())
        if arguments[7] == "fresh":
            chance = random.Random(f"{seed} {number}")
            requests: Iterator[bytes] = (
                _request(port, model, next(lengths), _fresh_prompt(prompt_tokens, chance))
                for model in named
            )
        else:
            made = [
                _request(port, model, next(lengths), _repeated_prompt(prompt_tokens, seed + n))
                for n, model in zip(range(8), named, strict=False)
            ]
            requests = itertools.cycle(made)
        work.append(_stream(port, requests, tally))
    await asyncio.gather(*work)
    return tally


if __name__ == "__main__":
    done = asyncio.run(run(sys.argv[1:]))
    print(json.dumps({**vars(done), "first_token_seconds": done.first_token_seconds}))
