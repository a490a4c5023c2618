"""Tokens of an answer: from vLLM's log probabilities to TGI's rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

TokenTexts = Callable[[Sequence[int]], list[str]]
"""The text of each token by its id."""

Row = dict[str, Any]

_NUMBERED = "token_id:"
_STOPPED = "stop"


def finish_reason(choice: Mapping[str, Any]) -> str | None:
    """In TGI's words; None: it did not finish, or not well."""
    reason = choice.get("finish_reason")
    if reason == _STOPPED:
        by_text = isinstance(choice.get("stop_reason"), str)
        return "stop_sequence" if by_text else "eos_token"
    return "length" if reason == "length" else None


def token_rows(choice: Mapping[str, Any], texts: TokenTexts | None) -> tuple[list[Row], list[Row]]:
    """Of the prompt, where it was echoed, and of the answer."""
    found = choice["logprobs"]
    own = choice["token_ids"]
    echoed = len(found["tokens"]) - len(own)
    ids = [*(choice["prompt_token_ids"][:echoed] if echoed else ()), *own]
    shown = list(_alternatives(found["tokens"], ids, texts))
    rows = [
        {"id": number, "text": text, "logprob": logprob, "special": False}
        for number, text, logprob in zip(ids, shown, found["token_logprobs"], strict=True)
    ]
    if rows and finish_reason(choice) == "eos_token":
        rows[-1]["special"] = True
    prompt = [{name: row[name] for name in ("id", "text", "logprob")} for row in rows[:echoed]]
    return prompt, rows[echoed:]


def alternatives(choice: Mapping[str, Any], texts: TokenTexts, most: int) -> list[list[Row]]:
    """For each token of the answer the most likely ones, the likeliest first."""
    steps = choice["logprobs"]["top_logprobs"]
    return [_most_likely(step or {}, texts, most) for step in steps[len(steps) - _length(choice) :]]


def _most_likely(step: Mapping[str, float], texts: TokenTexts, most: int) -> list[Row]:
    best = sorted(step.items(), key=lambda each: -each[1])[:most]
    ids = [int(name.removeprefix(_NUMBERED)) for name, _ in best]
    return [
        {"id": number, "text": text, "logprob": logprob, "special": False}
        for number, text, (_, logprob) in zip(ids, texts(ids), best, strict=True)
    ]


def _length(choice: Mapping[str, Any]) -> int:
    return len(choice["token_ids"])


def _alternatives(
    tokens: Sequence[str], ids: Sequence[int], texts: TokenTexts | None
) -> Iterator[str] | list[str]:
    """vLLM numbers them where it shows alternatives: their texts are no names of theirs."""
    if texts is not None and tokens and tokens[0] == f"{_NUMBERED}{ids[0]}":
        return texts(ids)
    return iter(tokens)
