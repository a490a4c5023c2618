"""Token estimate: what a request may cost of its caller's tokens, before the engine has counted.

As OpenAI does it: the prompt by its length, and as many tokens of the answer as it asks for.
"""

from typing import Any

import msgspec

from registry.rates.caller_rates import RequestRates

_BYTES_PER_TOKEN = 4


class _Fields(msgspec.Struct):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None


_DECODER = msgspec.json.Decoder(_Fields)


async def take_tokens(rates: RequestRates, body: bytes) -> None:
    """Take the estimate. Raises RateLimitExceeded."""
    if rates.limits("tokens"):
        answer = _answer_tokens(body)
        prompt = max(1, len(body) // _BYTES_PER_TOKEN)
        await rates.take("tokens", prompt + answer, at_least=answer)


def _answer_tokens(body: bytes) -> int:
    """0 if it doesn't say, or can't be read: then a route says what is wrong."""
    try:
        fields = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return 0
    asked = (fields.max_completion_tokens, fields.max_output_tokens, fields.max_tokens)
    return max(map(_count, asked)) * max(1, _count(fields.n))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
