"""Prompt bounds: what can't fit the model's length is refused before all of it is tokenized.

vLLM checks a prompt by its characters, on some routes only, and by the longest token there is:
for a model of 128k tokens that lets 16 MB pass.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from vllm.exceptions import VLLMValidationError

logger = logging.getLogger(__name__)

PIECE_CHARS = 2**16
_MAX_WHOLE_CHARS = 2**19
_TOKENS_AT_BORDER = 16  # a cut within a word may add so many


def bound_prompts(renderer: Any) -> None:
    """For all texts that the renderer tokenizes, and all tokens that it makes text of."""
    if not hasattr(renderer, "_async_tokenizer_decode"):  # older vLLM
        logger.warning("this vLLM tokenizes prompts of any length")
        return
    bounds = PromptBounds(renderer.model_config.max_model_len, renderer)
    renderer._tokenize_prompt_async = bounds.limit_text(renderer._tokenize_prompt_async)
    renderer._async_tokenizer_decode = bounds.limit_tokens(renderer._async_tokenizer_decode)


class PromptBounds:
    """A long text is counted in pieces, each a job of its own: others take turns between them, and
    none follows when its caller leaves."""

    def __init__(self, max_tokens: int, renderer: Any) -> None:
        self._max_tokens = max_tokens
        self._renderer = renderer
        self._max_whole_chars = max(PIECE_CHARS, min(4 * max_tokens, _MAX_WHOLE_CHARS))

    def limit_text(
        self, tokenize: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def limited(prompt: Any, params: Any) -> Any:
            text = await self._bound(prompt["prompt"], params)
            return await tokenize({**prompt, "prompt": text}, params)

        return limited

    def limit_tokens(self, decode: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def limited(tokens: Any, *more: Any, **options: Any) -> Any:
            if len(tokens) > self._max_tokens:
                raise self._too_long(len(tokens))
            return await decode(tokens, *more, **options)

        return limited

    async def _bound(self, text: str, params: Any) -> str:
        """The text, or as much of it as will be left. Raises VLLMValidationError."""
        max_tokens = max(self._max_tokens, params.max_total_tokens or 0)  # in chunks, of pooling
        truncates = params.truncate_prompt_tokens is not None
        tokenizer = self._renderer.get_tokenizer()
        if not truncates and len(text) > max_tokens * tokenizer.max_chars_per_token:
            raise self._too_long(None)
        if len(text) <= self._max_whole_chars:
            return text
        from_end = truncates and (params.truncation_side or tokenizer.truncation_side) == "left"
        count, most = 0, len(text)
        for begin in range(0, most, PIECE_CHARS):
            first, last = begin, min(begin + PIECE_CHARS, most)
            if from_end:
                first, last = most - last, most - first
            count += await self._count(text[first:last]) - _TOKENS_AT_BORDER
            if count > max_tokens:
                if not truncates:
                    raise self._too_long(count)
                return text[first:] if from_end else text[:last]
        return text

    async def _count(self, piece: str) -> int:
        encode = self._renderer.get_tokenizer().encode
        loop = asyncio.get_running_loop()
        ids = await loop.run_in_executor(
            self._renderer._executor, lambda text: encode(text, add_special_tokens=False), piece
        )
        return len(ids)

    def _too_long(self, count: int | None) -> VLLMValidationError:
        found = "more" if count is None else f"at least {count}"
        return VLLMValidationError(
            f"This model's maximum context length is {self._max_tokens} tokens, and the input has "
            f"{found}. Please reduce the length of the input.",
            parameter="input_tokens",
        )
