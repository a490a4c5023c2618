"""Step times: what the moments at which tokens came say of an engine's steps and prompts."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """When it was asked for, and when each of its tokens came: in seconds, by one clock."""

    began: float
    times: Sequence[float]

    @property
    def first_token_seconds(self) -> float:
        return self.times[0] - self.began

    @property
    def steps(self) -> Iterator[tuple[float, float]]:
        """From each token to the next."""
        return itertools.pairwise(self.times)


def whole_steps(together: Sequence[Answer]) -> list[float]:
    """The seconds of the steps in which all of them ran, and none began or ended."""
    began = max(each.times[0] for each in together)
    ended = min(each.times[-1] for each in together)
    steps = itertools.chain.from_iterable(each.steps for each in together)
    return [end - begin for begin, end in steps if begin >= began and end <= ended]


def prompt_seconds(streams: Sequence[tuple[Answer, Sequence[Answer]]]) -> float:
    """How much longer the steps of streams took for each prompt that was asked for beside them; 0
    if there is nothing to compare with.

    A prompt is computed in one of the steps between its request and its token, and all of those
    count: an answer's first token reaches its client later than the stream's of the same step, on a
    GPU by as long as a step takes.
    """
    beside, without, count = list[float](), list[float](), 0
    for stream, prompts in streams:
        began, ended = stream.times[0], stream.times[-1]
        for begin, end in stream.steps:
            met = [each for each in prompts if each.began < end and each.times[0] > begin]
            if all(began <= each.began and each.times[0] <= ended for each in met):
                (beside if met else without).append(end - begin)
        count += sum(began <= each.began and each.times[0] <= ended for each in prompts)
    if not (count and without):
        return 0.0
    return (sum(beside) - len(beside) * statistics.fmean(without)) / count


def line_of(steps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The seconds of a step, and of each request in it, neither of them negative."""
    counts, seconds = zip(*steps, strict=True)
    per_request, alone = statistics.linear_regression(counts, seconds)
    per_request = max(per_request, 0.0)
    return alone if alone > 0 else max(seconds[0] - per_request, 0.0), per_request
