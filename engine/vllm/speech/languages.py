"""Languages of speech: found by the base model, whichever adapter transcribes.

Where a request names no language, vLLM asks the engine of Whisper for it first, without the adapter
(0.32).
"""

from typing import Any

from engine.gateway.request_context import base_question


def find_languages_by_base(serving: Any) -> None:
    """`serving`: vLLM's for transcriptions or translations; None or an older one is left alone."""
    find = getattr(serving, "_detect_language", None)
    if find is None:
        return

    async def find_by_base(*inputs: Any, **options: Any) -> Any:
        with base_question():
            return await find(*inputs, **options)

    serving._detect_language = find_by_base
