"""Tokens and first tokens, from outputs as vLLM gives them in each of its ways."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.gateway.generation import CountedGeneration
from engine.types import CacheOutcome, Lease
from tests.support.cache.controller_harness import A

ARRIVED_AT = 1_000_000.0


@dataclass
class Completion:
    index: int
    token_ids: list[int]


@dataclass
class Stats:
    arrival_time: float = ARRIVED_AT + 2
    first_token_latency: float = 0.5


@dataclass
class Output:
    outputs: Any
    prompt_token_ids: list[int] = field(default_factory=lambda: [1, 2, 3])
    metrics: Stats | None = field(default_factory=Stats)


class Tally:
    def __init__(self) -> None:
        self.counted: list[tuple[str, int, int]] = []
        self.first: list[tuple[CacheOutcome, float]] = []

    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None:
        self.first.append((outcome, seconds))

    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None:
        self.counted.append((adapter, prompt, generation))


def counted(outputs: list[Output], *, deltas: bool, arrived_at: float = ARRIVED_AT) -> Tally:
    tally = Tally()
    lease = Lease(A, CacheOutcome.HOST_HIT, 0.0, 0.0)
    generation = CountedGeneration(tally, lease, arrived_at, deltas=deltas, trace_headers=None)
    for output in outputs:
        generation.on_output(output)
    generation.end()
    return tally


def test_deltas_are_added_up_for_each_completion() -> None:
    pieces = [(0, [7]), (1, [7, 8]), (0, []), (0, [9, 10])]
    outputs = [Output([Completion(index, ids)]) for index, ids in pieces]
    assert counted(outputs, deltas=True).counted == [("a1", 3, 5)]


@pytest.mark.parametrize("steps", [[[7, 8, 9]], [[7], [7, 8], [7, 8, 9]]])
def test_of_outputs_that_hold_all_of_it_the_last_counts(steps: list[list[int]]) -> None:
    outputs = [Output([Completion(0, ids)]) for ids in steps]
    assert counted(outputs, deltas=False).counted == [("a1", 3, 3)]


def test_the_first_token_is_timed_by_the_engine_once() -> None:
    outputs = [Output([Completion(0, [n])]) for n in range(3)]
    assert counted(outputs, deltas=True).first == [(CacheOutcome.HOST_HIT, 2.5)]
    late = counted(outputs, deltas=True, arrived_at=ARRIVED_AT + 10)
    assert late.first == [(CacheOutcome.HOST_HIT, 0.0)], "a clock that was set back"


def test_without_the_engine_s_statistics_or_tokens_there_is_no_first_token() -> None:
    completion = [Completion(0, [1])]
    assert counted([Output(completion, metrics=None)], deltas=True).first == []
    unsaid = Output(completion, metrics=Stats(first_token_latency=0.0))
    assert counted([unsaid], deltas=True).first == []


def test_an_embedding_reads_tokens_and_writes_none() -> None:
    tally = counted([Output(object(), metrics=None)], deltas=False)
    assert tally.counted == [("a1", 3, 0)]


def test_who_leaves_before_anything_came_has_no_tokens() -> None:
    assert counted([], deltas=True).counted == [("a1", 0, 0)]
