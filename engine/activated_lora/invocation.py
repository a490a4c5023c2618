"""Invocation: where in a prompt the effect of an activated adapter begins, by PEFT's own rule.

The last occurrence of the invocation tokens counts, from its first token on. A prompt without them
is the base model's, as is all that it generates (`peft.tuners.lora.variants`).
"""

from array import array
from collections.abc import Sequence

_ITEM = array("i").itemsize
_LAST_TOKENS = 256
"""Where it is searched first: an invocation is mostly near the end of a long prompt."""


def find_start(prompt: Sequence[int] | None, invocation: Sequence[int]) -> int | None:
    """Position of the first token of the last occurrence; None without any.

    `prompt` None: it was given as embeddings, in which no tokens can be found.
    """
    if prompt is None or not invocation:
        return None
    sought, following = array("i", invocation).tobytes(), len(invocation) - 1
    end, count = len(prompt), _LAST_TOKENS
    while end > 0:
        begin = max(end - count, 0)
        at = _find_last(array("i", prompt[begin : end + following]).tobytes(), sought)
        if at is not None:
            return begin + at
        end, count = begin, 2 * count
    return None


def _find_last(text: bytes, sought: bytes) -> int | None:
    end = len(text)
    while (at := text.rfind(sought, 0, end)) >= 0:
        if at % _ITEM == 0:
            return at // _ITEM
        end = at + len(sought) - 1  # parts of neighbours that look like the tokens
    return None
