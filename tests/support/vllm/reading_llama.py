"""Reading Llama: the demo's model as one that vLLM's routes for speech serve, without any speech.

Each sample of the audio is a letter, and each file or message of them a word: what vLLM needs a
model for speech for, it does with real text. All else is vLLM's own, LoRA too.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vllm.config import SpeechToTextConfig
from vllm.model_executor.models.interfaces import SupportsRealtime, SupportsTranscription
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.tokenizers import cached_tokenizer_from_config

from demo.tasks import prompt_for
from tests.support.vllm.reading_serve import SAMPLES_PER_SECOND


class ReadingLlama(LlamaForCausalLM, SupportsRealtime, SupportsTranscription):  # type: ignore[misc]  # vLLM is untyped here
    """As Whisper, it is asked for the language of what a request names no language of."""

    realtime_max_tokens = 32
    supported_languages = {"en": "English", "de": "German"}  # noqa: RUF012  # as vLLM declares it
    supports_explicit_language_detection = True
    supports_segment_timestamp = True  # vLLM gives the tokenizer only to such a model

    @classmethod
    async def buffer_realtime_audio(
        cls,
        audio_stream: AsyncGenerator[NDArray[np.float32], None],
        input_stream: asyncio.Queue[list[int]],
        model_config: Any,
    ) -> AsyncGenerator[Any, None]:
        tokenizer = cached_tokenizer_from_config(model_config)
        async for samples in audio_stream:
            yield {"prompt_token_ids": tokenizer.encode(prompt_for(_letters(samples)))}

    @classmethod
    def get_speech_to_text_config(cls, model_config: Any, task_type: str) -> SpeechToTextConfig:
        return SpeechToTextConfig(sample_rate=SAMPLES_PER_SECOND)

    @classmethod
    def get_generation_prompt(cls, stt_params: Any) -> Any:
        tokenizer = cached_tokenizer_from_config(stt_params.model_config)
        return {"prompt_token_ids": tokenizer.encode(prompt_for(_letters(stt_params.audio)))}

    @classmethod
    def get_language_detection_prompt(cls, audio: NDArray[np.float32], stt_config: Any) -> Any:
        return {"prompt_token_ids": [5, 6]}

    @classmethod
    def get_language_token_ids(cls, tokenizer: Any) -> list[int]:
        return [5, 6]

    @classmethod
    def parse_language_detection_output(cls, token_ids: Sequence[int], tokenizer: Any) -> str:
        return "en" if token_ids[0] == 5 else "de"


def _letters(samples: NDArray[np.float32]) -> str:
    return "".join(chr(round(each * 2**15)) for each in samples)
