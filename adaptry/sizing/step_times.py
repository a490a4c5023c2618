"""Step times: what the moments at which tokens came say of an engine's steps and prompts."""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
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


def longer_steps(first_tokens: Mapping[int, Sequence[float]]) -> list[tuple[float, float]]:
    """By how much sooner the first tokens of the shortest prompts come than those of each longer
    one, by their tokens, the shortest first. No more tokens take less.

    Those that come soon are compared: what a server does besides is then out of the way.
    """
    short, *longer = ((count, _soon(times)) for count, times in first_tokens.items())
    more = itertools.accumulate((seconds - short[1] for _, seconds in longer), max, initial=0.0)
    return list(zip((count for count, _ in longer), itertools.islice(more, 1, None), strict=True))


def _soon(times: Sequence[float]) -> float:
    return sorted(times)[len(times) // 4]


def line_of(steps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The seconds of a step, and of each request in it, neither of them negative."""
    counts, seconds = zip(*steps, strict=True)
    per_request, alone = statistics.linear_regression(counts, seconds)
    per_request = max(per_request, 0.0)
    return alone if alone > 0 else max(seconds[0] - per_request, 0.0), per_request


def per_adapter_seconds(
    one: Sequence[tuple[float, float]], several: Sequence[tuple[float, float]]
) -> float:
    """What each adapter but the first adds to a step: of so many requests for `one`, and of as many
    for `several`, each for its own. 0 if nothing is known of several.
    """
    alike = dict(one)
    more = [(count - 1, seconds - alike[count]) for count, seconds in several]
    weight = sum(others * others for others, _ in more)
    return max(sum(others * each for others, each in more) / weight, 0.0) if weight else 0.0
