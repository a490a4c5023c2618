"""`python -m adaptry`, in whose processes vLLM knows `tests.support.vllm.reading_llama`.

The process of the engine is spawned: it imports this module before it loads the model.
"""

import sys
import wave
from io import BytesIO
from typing import Any

import numpy as np

from adaptry.cli import main

ARCHITECTURE = "ReadingLlama"
SAMPLES_PER_SECOND = 16_000
MODULE = "tests.support.vllm.reading_serve"


def register() -> None:
    """The class itself: vLLM starts a process to look at one that it is told the name of."""
    from vllm import ModelRegistry

    from tests.support.vllm.reading_llama import ReadingLlama

    ModelRegistry.register_model(ARCHITECTURE, ReadingLlama)


def read_wav(file: BytesIO, **options: Any) -> tuple[Any, int]:
    """In place of the libraries that vLLM decodes audio with, of which none is installed."""
    with wave.open(file) as content:
        frames = content.readframes(content.getnframes())
        return np.frombuffer(frames, np.int16).astype(np.float32) / 2**15, content.getframerate()


def decode_wav() -> None:
    from vllm.entrypoints.speech_to_text.base import serving

    serving.load_audio = read_wav


if __name__ in ("__main__", "__mp_main__"):
    register()
if __name__ == "__main__":
    decode_wav()
    sys.exit(main())
