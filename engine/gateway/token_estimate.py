"""Token estimate: what a request may cost of its caller's tokens, before the engine has counted.

As OpenAI does it: the prompt by its length, and as many tokens of the answer as it asks for.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.gateway.request_body import RequestBody
from registry.rates.caller_rates import RequestRates

_BYTES_PER_TOKEN = 4
_ANSWER_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


async def take_tokens(rates: RequestRates, body: RequestBody) -> None:
    """Take the estimate. Raises RateLimitExceeded."""
    if rates.limits("tokens"):
        answer = _answer_tokens(body.members)
        prompt = estimated_prompt(len(body.content))
        await rates.take("tokens", prompt + answer, at_least=answer)


def estimated_prompt(size_bytes: int) -> int:
    """The tokens of a prompt in a body of this size."""
    return max(1, size_bytes // _BYTES_PER_TOKEN)


async def take_tokens_of_models(
    rates: RequestRates, body: RequestBody, models: Sequence[Mapping[str, Any]]
) -> None:
    """Of a fan-out: each model reads the shared prompt and its own end, and answers.

    `models`: what each adds to the body or has in place of what is there. Raises RateLimitExceeded.
    """
    if not rates.limits("tokens"):
        return
    own = sum(len(json.dumps(model)) for model in models)
    shared = max(len(body.content) - own, 0)
    prompts = max(len(models), (shared * len(models) + own) // _BYTES_PER_TOKEN)
    answers = sum(_answer_tokens({**body.members, **model}) for model in models)
    await rates.take("tokens", prompts + answers, at_least=answers)


def _answer_tokens(members: Mapping[str, Any]) -> int:
    """0 if it doesn't say, or can't be read: then a route says what is wrong."""
    asked = max(_count(members.get(field)) for field in _ANSWER_FIELDS)
    return asked * max(1, _count(members.get("n")))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
