"""Activated adapters over HTTP: what PEFT answers with them, token for token, in every mode that
the CPU build has: chunked prompts, prefix cache, preemption, speculation, several completions.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.adapters.activated import (
    BASE,
    INVOCATIONS,
    Reference,
    as_plain,
    save_activated,
)
from tests.support.vllm.tiny_engines import ServedBase

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

BLOCK = 32  # the least that the CPU build takes
TOKENS = 6
SPECULATION = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}
ARGUMENTS = (
    *("--max-model-len", "512", "--max-num-batched-tokens", "96", "--max-num-seqs", "16"),
    *("--block-size", str(BLOCK), "--kv-cache-memory-bytes", str(5 * 2**20)),
    *("--max-loras", "3", "--max-lora-rank", "8", "--served-model-name", "base"),
    *("--speculative-config", json.dumps(SPECULATION), "--enforce-eager"),
)


@dataclass
class Served:
    server: ServedBase
    reference: Reference

    def post(self, model: str, prompt: Sequence[int], **options: Any) -> httpx.Response:
        body = {"model": model, "prompt": list(prompt), "temperature": 0, "max_tokens": TOKENS}
        more = {"ignore_eos": True, "return_token_ids": True, **options}
        response = self.server.client.post("/v1/completions", json=body | more)
        assert response.status_code == 200, response.text
        return response

    def tokens(self, model: str, prompt: Sequence[int], **options: Any) -> list[int]:
        found: list[int] = self.post(model, prompt, **options).json()["choices"][0]["token_ids"]
        return found

    def cached(self, model: str, prompt: Sequence[int], **options: Any) -> int:
        usage = self.post(model, prompt, **options).json()["usage"]
        return int((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)

    def is_right(self, model: str, prompt: Sequence[int], **options: Any) -> bool:
        right = self.reference.tokens(model, prompt, TOKENS)
        return self.tokens(model, prompt, **options) == right


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("activated")
    sources = folder / "adapters"
    adapters = {
        name: save_activated(sources / name, tokens, seed)
        for seed, (name, tokens) in enumerate(INVOCATIONS.items())
    }
    adapters["plain-judge"] = as_plain(adapters["judge"], sources / "plain-judge")
    server = ServedBase(folder, BASE, sources, {})
    server.arguments = ARGUMENTS
    try:
        server.start()
        for name, source in adapters.items():
            assert server.add(name, source) is None
        yield Served(server, Reference(adapters))
    finally:
        server.stop()
        server.client.close()


def words(count: int, seed: int) -> list[int]:
    """A prompt without any invocation."""
    draw = random.Random(seed)
    return [draw.randrange(50, 250) for _ in range(count)]


def test_tokens_are_pefts(served: Served) -> None:
    """Alone, in order: one after the other finds the blocks of those before."""
    prompt = words(200, 1)
    for model in ("base", *INVOCATIONS, "plain-judge", *reversed(INVOCATIONS)):
        invoked = [*prompt, *INVOCATIONS.get(model, []), *words(3, 2)]
        assert served.is_right(model, invoked), model
    answers = {
        model: tuple(served.tokens(model, [*prompt, 40, 41, *words(3, 2)]))
        for model in ("base", "judge", "guard", "plain-judge")
    }
    assert len(set(answers.values())) == 4, "each has an effect of its own"
