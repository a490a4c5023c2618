"""Scoring: numbers that the engine computes of one fixed prompt, without its OpenAI application.

Log probabilities of the prompt's tokens, or, by an engine that embeds or classifies, what it pools.
"""

import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from vllm import PoolingParams, SamplingParams
from vllm.v1.engine.exceptions import EngineDeadError

from engine.errors import EngineUnavailable
from engine.operations.probe import Score
from engine.types import AdapterVersion
from engine.vllm.admission.held_leases import use_held_lease
from engine.vllm.backend import lora_request
from engine.vllm.engine_client import LeasedAsyncLLM

PROMPT_TOKENS = 32
_POOLING_TASKS = ("embed", "classify")  # vLLM prefers the first too; the others are by token


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
        request = None if version is None else lora_request(version)
        name = f"adaptry-probe-{next(numbers)}"
        if engine.model_config.runner_type == "pooling":
            pooling = PoolingParams(task=await _pooling_task(engine))
            pooled = await _last(engine.encode(prompt, pooling, name, lora_request=request))
            return [float(number) for number in pooled.outputs.data.flatten().tolist()]
        sampling = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        done = await _last(engine.generate(prompt, sampling, name, lora_request=request))
        return [next(iter(token.values())).logprob for token in done.prompt_logprobs[1:]]

    return score


async def _pooling_task(engine: LeasedAsyncLLM) -> str:
    tasks = await engine.get_supported_tasks()
    return next((task for task in _POOLING_TASKS if task in tasks), tasks[0])


async def _last(stream: AsyncGenerator[Any]) -> Any:
    """The last output. Raises EngineUnavailable."""
    try:
        async with use_held_lease(), aclosing(stream):
            async for output in stream:
                last = output
    except EngineDeadError as error:
        raise EngineUnavailable("it ended") from error
    return last
