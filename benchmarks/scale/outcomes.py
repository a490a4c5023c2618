"""Outcomes of requests beside a fault: answered, told so, or lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common.client import Answer


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`told`: by a refusal, or by the error that ends a stream that had begun. `lost`: neither, as
    where a connection was cut, or where nothing came in time."""

    answered: int
    told: int
    lost: int
    example: str

    def row(self) -> dict[str, object]:
        return {
            "answered": self.answered,
            "told of an error": self.told,
            "lost": self.lost,
            "an error": self.example or "–",
        }


def outcomes_of(answers: Sequence[Answer]) -> Outcomes:
    answered = [each for each in answers if each.error is None and each.is_whole]
    told = [each for each in answers if each.error is not None and _is_clear(each.error)]
    failed = [each.error for each in answers if each.error is not None]
    lost = len(answers) - len(answered) - len(told)
    return Outcomes(len(answered), len(told), lost, failed[0].strip() if failed else "")


def _is_clear(error: str) -> bool:
    """Whether it is the server's own, with a code."""
    return error.removeprefix("data: ").startswith('{"error"')
