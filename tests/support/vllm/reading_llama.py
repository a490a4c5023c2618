"""Reading Llama: the demo's model as one that vLLM's `/v1/realtime` serves, without any speech.

Each sample of the audio is a letter, and each message of them a word: what vLLM needs a
model for speech for, it does with real text. All else is vLLM's own, LoRA too.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vllm.model_executor.models.interfaces import SupportsRealtime
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.tokenizers import cached_tokenizer_from_config

from demo.tasks import prompt_for

ARCHITECTURE = "ReadingLlama"


class ReadingLlama(LlamaForCausalLM, SupportsRealtime):  # type: ignore[misc]  # vLLM is untyped here
    realtime_max_tokens = 32

    @classmethod
    async def buffer_realtime_audio(
        cls,
        audio_stream: AsyncGenerator[NDArray[np.float32], None],
        input_stream: asyncio.Queue[list[int]],
        model_config: Any,
    ) -> AsyncGenerator[Any, None]:
        tokenizer = cached_tokenizer_from_config(model_config)
        async for samples in audio_stream:
            letters = "".join(chr(round(each * 2**15)) for each in samples)
            yield {"prompt_token_ids": tokenizer.encode(prompt_for(letters))}
