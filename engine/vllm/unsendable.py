"""Unsendable requests: what vLLM's validation lets pass and msgpack can't write for its engine.

Such as an integer of more than 64 bits, or half a character. vLLM (0.32) answers them with 500.
"""

from vllm.exceptions import VLLMValidationError

UNSENDABLE = (OverflowError, UnicodeEncodeError)
"""What sending such a request raises."""


def invalid(error: Exception) -> VLLMValidationError:
    """The error in place of one of these: it becomes a 400."""
    if isinstance(error, OverflowError):
        return VLLMValidationError("a number of the request has more than 64 bits")
    return VLLMValidationError("a text of the request has half a character")
