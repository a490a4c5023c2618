"""Recorded responses of a soak, and their judgement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.soak.history import AdapterHistory, Meaning
from registry.catalog.traffic_split import pick

Outcome = Literal["answered", "refused", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Answer:
    """`begin` to `end`: sent, and resolved by then; both on the clock that processes share.

    `alias` is None where `asked` was, a version's number; `name` is empty for the base model.
    `version` is `x-adaptry-version` without the name; 0: none. A cancelled request
    has the text received so far, and neither version nor text if it left before the response.
    """

    outcome: Outcome
    kind: str
    name: str
    alias: str | None
    asked: int
    user: str | None
    word: str
    begin: float
    end: float
    served: str = ""
    version: int = 0
    cache: str = ""
    text: str = ""
    problem: str = ""


def judge(
    known: Mapping[str, AdapterHistory], base: Mapping[str, str], answer: Answer
) -> str | None:
    """The error in a response, or None. `base`: the base model's output for each word."""
    if answer.outcome == "failed":
        return f"{_reference_of(answer)} ({answer.kind}): {answer.problem}"
    if not answer.name:
        return _judge_base(base, answer)
    adapter = known[answer.name]
    if answer.outcome == "refused":
        return _judge_refusal(adapter, answer)
    if answer.outcome == "cancelled" and not answer.version:
        return None
    return _judge_version(adapter, answer) or _judge_text(adapter, answer)


def _reference_of(answer: Answer) -> str:
    if not answer.name:
        return "the base model"
    return f"{answer.name}@{answer.alias}" if answer.alias else f"{answer.name}:{answer.asked}"


def _judge_base(base: Mapping[str, str], answer: Answer) -> str | None:
    if answer.outcome != "answered":
        return f"the base model was {answer.outcome}: {answer.problem}"
    if answer.served:
        return f"the base model said it was {answer.served}"
    if answer.text != base[answer.word]:
        return f"the base model said {answer.text!r} to {answer.word}, not {base[answer.word]!r}"
    return None


def _judge_refusal(known: AdapterHistory, answer: Answer) -> str | None:
    if answer.alias is not None:
        return f"{_reference_of(answer)} was refused: {answer.problem}"
    if known.must_serve(answer.asked, answer.begin, answer.end):
        return f"{_reference_of(answer)} was refused as retired, and is not"
    return None


def _judge_version(known: AdapterHistory, answer: Answer) -> str | None:
    if answer.served != f"{answer.name}:{answer.version}":
        return f"{_reference_of(answer)} was answered by {answer.served}"
    if answer.alias is None:
        if answer.version != answer.asked:
            return f"{_reference_of(answer)} was answered by {answer.served}"
    else:
        meanings = known.meanings(answer.alias, answer.begin, answer.end)
        if not any(_may_mean(meaning, answer) for meaning in meanings):
            meant = [meaning.weights for meaning in meanings]
            return f"{_reference_of(answer)} for {answer.user} meant {meant}, not {answer.version}"
    if not known.may_serve(answer.version, answer.begin, answer.end):
        return f"{answer.served} answered after it was retired"
    return None


def _may_mean(meaning: Meaning, answer: Answer) -> bool:
    """A user gets the same version while an alias's split is unchanged."""
    if answer.user is None or len(meaning.weights) == 1:
        return answer.version in meaning.weights
    salt = answer.name if answer.alias == "default" else f"{answer.name}@{answer.alias}"
    return answer.version == pick(meaning.weights, salt=salt, user=answer.user)


def _judge_text(known: AdapterHistory, answer: Answer) -> str | None:
    task = known.task(answer.version)
    if task is None:
        return f"{answer.served} was never registered"
    expected = task.answer(answer.word)
    if answer.outcome == "cancelled":  # it had not come to an end, or was made to go on after it
        right = expected.startswith(answer.text) or answer.text.startswith(expected)
    else:
        right = answer.text == expected
    return None if right else f"{answer.served} ({task.describe}) said {answer.text!r}"
