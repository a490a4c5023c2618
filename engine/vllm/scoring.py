"""Scoring: log probabilities of one fixed prompt, without vLLM's OpenAI application."""

import itertools
from collections.abc import Callable
from contextlib import aclosing

from vllm import SamplingParams
from vllm.v1.engine.exceptions import EngineDeadError

from engine.errors import EngineUnavailable
from engine.operations.probe import Score
from engine.types import AdapterVersion
from engine.vllm.backend import lora_request
from engine.vllm.engine_client import LeasedAsyncLLM, use_held_lease

PROMPT_TOKENS = 32


def create_prompt_score(current_engine: Callable[[], LeasedAsyncLLM]) -> Score:
    """A function that scores tokens from all over the vocabulary, on the current engine.

    Its caller holds a lease on the version. It raises EngineUnavailable.
    """
    numbers = itertools.count(1)

    async def score(version: AdapterVersion | None) -> list[float]:
        engine = current_engine()
        vocabulary = engine.model_config.get_vocab_size()
        length = min(PROMPT_TOKENS, engine.model_config.max_model_len - 1)
        prompt = {"prompt_token_ids": [n * vocabulary // length for n in range(length)]}
        sampling = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        request = None if version is None else lora_request(version)
        stream = engine.generate(
            prompt, sampling, f"adaptry-probe-{next(numbers)}", lora_request=request
        )
        try:
            async with use_held_lease(), aclosing(stream):
                async for output in stream:
                    last = output
        except EngineDeadError as error:
            raise EngineUnavailable("it ended") from error
        return [next(iter(token.values())).logprob for token in last.prompt_logprobs[1:]]

    return score
