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


def prompt_seconds(stream: Answer, prompts: Sequence[Answer]) -> list[float]:
    """How much longer each step was in which one of the prompts was computed than the steps without
    any: the token of a prompt comes with one of the stream.
    """
    steps = list(stream.steps)
    joint = set[int]()
    for prompt in prompts:
        if stream.times[0] < (came := prompt.times[0]) <= stream.times[-1]:
            ends = (abs(end - came) for _, end in steps)
            joint.add(min(enumerate(ends), key=lambda each: each[1])[0])
    seconds = [end - begin for begin, end in steps]
    without = [each for number, each in enumerate(seconds) if number not in joint]
    if not without:
        return []
    usual = statistics.fmean(without)
    return [seconds[number] - usual for number in sorted(joint)]


def line_of(steps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The seconds of a step, and of each request in it, neither of them negative."""
    counts, seconds = zip(*steps, strict=True)
    per_request, alone = statistics.linear_regression(counts, seconds)
    per_request = max(per_request, 0.0)
    return alone if alone > 0 else max(seconds[0] - per_request, 0.0), per_request
