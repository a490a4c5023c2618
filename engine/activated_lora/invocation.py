"""Invocation: where in a prompt the effect of an activated adapter begins, by PEFT's own rule.

The last occurrence of the invocation tokens counts, from its first token on. A prompt without them
is the base model's, as is all that it generates (`peft.tuners.lora.variants`).
"""

from array import array
from collections.abc import Sequence

_ITEM = array("i").itemsize


def find_start(prompt: Sequence[int] | None, invocation: Sequence[int]) -> int | None:
    """Position of the first token of the last occurrence; None without any.

    `prompt` None: it was given as embeddings, in which no tokens can be found.
    """
    if prompt is None or not invocation:
        return None
    text, sought = array("i", prompt).tobytes(), array("i", invocation).tobytes()
    end = len(text)
    while (at := text.rfind(sought, 0, end)) >= 0:
        if at % _ITEM == 0:
            return at // _ITEM
        end = at + len(sought) - 1  # parts of neighbours that look like the tokens
    return None
