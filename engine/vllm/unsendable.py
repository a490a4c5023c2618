"""Unsendable requests: what vLLM's validation lets pass and msgpack can't write for its engine.

Such as an integer of more than 64 bits, or half a character. vLLM (0.32) answers them with 500.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.exceptions import VLLMValidationError


@contextmanager
def refused_as_invalid() -> Iterator[None]:
    """Around sending a request. Raises VLLMValidationError, which becomes a 400."""
    try:
        yield
    except OverflowError:
        message = "a number of the request has more than 64 bits"
    except UnicodeEncodeError:
        message = "a text of the request has half a character"
    else:
        return
    raise VLLMValidationError(message)
