"""Prompt tail: the text of a generation is told from the end of its prompt, not from all of it.

At the first token of an answer the decoder of tokenizers (0.22) makes text of the whole prompt,
twice (vLLM 0.32): 19 ms of the server's event loop for 32k tokens, to see whether a word or a
character goes on. What precedes the last words of a prompt decides nothing of that.

After a prompt that ends within a character, as one cut by tokens does, the decoder says all of the
prompt again, in the answer. Here an answer begins with that character.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

LONG = 512
"""Prompts of more tokens are cut."""

_TAILS = (64, 512)
_MIN_CHARS = 16
"""A decoder may treat the start of a text otherwise than what follows."""

_HALF_CHARACTER = "\ufffd"
_HALF_TOKENS = 8
"""Of a prompt's end, may be parts of characters: one has up to four bytes, and some are none."""

_BYTE = "<0x"  # tokens of bytes are decoded together, as long as they follow each other


def decode_from_tail(output_processor: Any) -> None:
    """For all requests that the engine's output processor gets."""
    add_request = output_processor.add_request

    def add(request: Any, *inputs: Any, **options: Any) -> Any:
        is_new = request.request_id not in output_processor.request_states
        added = add_request(request, *inputs, **options)
        state = output_processor.request_states.get(request.request_id)
        if is_new and state is not None:
            cut_prompt(state.detokenizer, request.prompt_token_ids)
        return added

    output_processor.add_request = add


def cut_prompt(detokenizer: Any, prompt: Sequence[int] | None) -> None:
    """Of vLLM's detokenizer for a request, before its first token."""
    if not prompt or not isinstance(getattr(detokenizer, "stream", None), DecodeStream):
        return  # embeddings, or it makes no text, or not by tokenizers
    skips = detokenizer.skip_special_tokens
    tokenizer = detokenizer.tokenizer
    found = find_tail(tokenizer, prompt, skips_special=skips)
    if found is None:
        return
    tail, half = found
    stream = DecodeStream(ids=tail, skip_special_tokens=skips)
    for token in half:
        stream.step(tokenizer, token)
    detokenizer.stream = stream


def find_tail(
    tokenizer: Any, prompt: Sequence[int], *, skips_special: bool
) -> tuple[list[int], list[int]] | None:
    """The last tokens, after which a text goes on as after all of them, and those of a character
    that they end within. None if that is not sure, or if a short prompt needs no other.

    `tokenizer` is of tokenizers.
    """
    for count in _TAILS if len(prompt) > LONG else ():
        tail = list(prompt[-count:])
        while tail and not _separates(tokenizer, tail[0], skips_special=skips_special):
            tail.pop(0)
        found = _split_half(tokenizer, tail, skips_special=skips_special)
        if found is not None:
            text = tokenizer.decode(found[0], skip_special_tokens=skips_special)
            if len(text.strip()) >= _MIN_CHARS:
                return found
    lasts = prompt[: -_HALF_TOKENS - 1 : -1]  # some say nothing
    texts = (tokenizer.decode([each], skip_special_tokens=skips_special) for each in lasts)
    if not next(filter(None, texts), "").endswith(_HALF_CHARACTER):
        return None
    found = _split_half(tokenizer, list(prompt), skips_special=skips_special)
    return found if found is not None and found[1] else None


def _split_half(
    tokenizer: Any, tokens: list[int], *, skips_special: bool
) -> tuple[list[int], list[int]] | None:
    """Those up to the last whole character, and the others; None if these are many."""
    for end in range(len(tokens), max(len(tokens) - _HALF_TOKENS, 0) - 1, -1):
        text = tokenizer.decode(tokens[:end], skip_special_tokens=skips_special)
        if not text.endswith(_HALF_CHARACTER):
            return tokens[:end], tokens[end:]
    return None


def _separates(tokenizer: Any, token: int, *, skips_special: bool) -> bool:
    """Whether bytes before it are decoded without those after it. Skipped tokens don't."""
    name = tokenizer.id_to_token(token)
    if name is None or name.startswith(_BYTE):
        return False
    return bool(tokenizer.decode([token], skip_special_tokens=skips_special))
