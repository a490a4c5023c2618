"""Steps of kept runs: how long they took for each request, adapter and prompt that was in them.

    python -m benchmarks.sizing.steps FOLDER

FOLDER is that of `benchmarks.sizing --keep`. Of each request the time between two of its tokens is
held against how many requests and adapters ran meanwhile, by least squares. Nothing is run.
"""

import sys
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaptry.traces.reader import read_lines
from adaptry.traces.trace import TracedRequest
from benchmarks.common.tables import print_table
from benchmarks.sizing.halves import WARM_UP

FEWEST_TOKENS = 6  # of a request: of fewer, half a step decides
_LOOKS = 60  # at what runs, within a request


@dataclass(frozen=True, slots=True)
class Fit:
    """In seconds. `alone`: a step of one request. `share`: of the variance that all explain."""

    alone: float
    per_adapter: float
    per_request: float
    per_prompt: float
    share: float


def fit(requests: Sequence[TracedRequest]) -> Fit:
    """Of those that were completed, without the warm-up."""
    known = [each for each in requests if each.first_token_seconds is not None]
    firsts = sorted(each.at + (each.first_token_seconds or 0.0) for each in known)
    found = [
        _described(each, known, firsts)
        for each in known[sum(WARM_UP) :]
        if each.generated_tokens >= FEWEST_TOKENS
    ]
    features, gaps = np.array([row for row, _ in found]), np.array([gap for _, gap in found])
    weights = np.linalg.lstsq(features, gaps, rcond=None)[0]
    left = gaps - features @ weights
    rest, adapter, request, prompt = map(float, weights)
    share = 1 - float(left.var() / gaps.var()) if gaps.var() else 1.0
    return Fit(rest + adapter + request, adapter, request, prompt, share)


def _described(
    request: TracedRequest, others: Sequence[TracedRequest], firsts: Sequence[float]
) -> tuple[tuple[float, float, float, float], float]:
    """1, the mean number of adapters and requests that ran with it, and the prompts that began for
    each of its tokens; and the seconds between two of them."""
    first, tokens = request.at + (request.first_token_seconds or 0.0), request.generated_tokens - 1
    ended = request.at + request.seconds
    beside = [x for x in others if x.at + x.wait_seconds < ended and x.at + x.seconds > first]
    times = [first + (n + 0.5) * (ended - first) / _LOOKS for n in range(_LOOKS)]
    running = [
        [x.adapter for x in beside if x.at + x.wait_seconds <= at < x.at + x.seconds]
        for at in times
    ]
    adapters = sum(len(set(each)) for each in running) / _LOOKS
    prompts = max(bisect(firsts, ended) - bisect(firsts, first), 0) / tokens
    return (1.0, adapters, sum(map(len, running)) / _LOOKS, prompts), (ended - first) / tokens


def rows(folder: Path) -> Iterator[dict[str, object]]:
    for path in sorted(folder.glob("*.jsonl")):
        found = fit(read_lines(path.read_bytes().splitlines(), str(path)).requests)
        yield {
            "run": path.stem,
            "a step": f"{found.alone * 1000:.1f} ms",
            "for each further adapter": f"{found.per_adapter * 1000:.2f} ms",
            "for each further request, besides": f"{found.per_request * 1000:.2f} ms",
            "for each prompt that begins": f"{found.per_prompt * 1000:.1f} ms",
            "explained": f"{found.share:.0%}",
        }


if __name__ == "__main__":
    print_table(list(rows(Path(sys.argv[1]))))
