"""Calibration: the costs that it finds are those of an engine whose costs are known."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from adaptry.client.errors import InvalidRequest
from adaptry.sizing.calibration import (
    ALONE,
    PROMPTS,
    SHORT,
    TOGETHER,
    Calibration,
    Measured,
)
from adaptry.sizing.step_times import Answer, line_of, prompt_seconds, whole_steps
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace, TracedRequest
from benchmarks.fairness.simulated_loop import run

ALONE_STEP, SECOND, EACH = 0.010, 0.004, 0.0005
GRAPHS, JUMP = 64, 0.05
PROMPT = 0.003  # beside its tokens
FURTHER = 0.0007  # for each further adapter in a step
OVERHEAD = 0.004  # and twice as much for one in ten


def step(tokens: float) -> float:
    """A second token costs more than each further one, and a step of many has no CUDA graph."""
    without_graph = JUMP if tokens > GRAPHS else 0.0
    return ALONE_STEP + (SECOND + (tokens - 2) * EACH if tokens > 1 else 0.0) + without_graph


@dataclass(eq=False)
class Asked:
    """One request in the engine."""

    adapter: str
    prompt_tokens: int
    tokens: int
    times: list[float] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class KnownServer(Calibration):
    """A server whose engine works in steps, as vLLM's, and takes prompts of `context` tokens. As
    many adapters as it has slots run at a time.

    `slower`: by how much each step takes longer at a time. `late`: seconds by which an answer of
    one token reaches the client later than it is made.
    """

    def __init__(
        self,
        context: int = 1000,
        slower: Callable[[float], float] = lambda now: 1.0,
        late: float = 0.0,
        adapters: str = "ab",
        slots: int = 2,
    ) -> None:
        super().__init__(httpx.AsyncClient(), list(adapters))
        self._late = late
        self._slots = slots
        self._context = context
        self._slower = slower
        self.asked: list[tuple[str, int, int]] = []
        self._pairs = itertools.count()
        self._running: list[Asked] = []
        self._coming: list[Asked] = []
        self._arrived = asyncio.Event()

    async def found(self) -> Measured:
        working = asyncio.create_task(self._work())
        try:
            return await self.measure()
        finally:
            working.cancel()

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if not (self._running or self._coming):
                self._arrived.clear()
                await self._arrived.wait()
            begun = self._begin()
            tokens = len(self._running) + sum(each.prompt_tokens for each in begun)
            seconds = step(tokens) + PROMPT * len(begun)
            others = len({each.adapter for each in [*self._running, *begun]}) - 1
            seconds += FURTHER * others
            await asyncio.sleep(seconds * self._slower(clock()))
            self._running += begun
            for each in self._running:
                each.times.append(clock())
                if len(each.times) == each.tokens:
                    each.ended.set()
            self._running = [each for each in self._running if not each.ended.is_set()]

    def _begin(self) -> list[Asked]:
        """Those that come and find a slot; the others come again."""
        found, begun = {each.adapter for each in self._running}, list[Asked]()
        for each in self._coming:
            if each.adapter in found or len(found) < self._slots:
                found.add(each.adapter)
                begun.append(each)
        self._coming = [each for each in self._coming if each not in begun]
        return begun

    async def _send(self, adapter: str, prompt_tokens: int, tokens: int) -> Answer:
        if prompt_tokens > self._context:
            raise InvalidRequest(400, "", "too long", retry_after_seconds=None, problem={})
        self.asked.append((adapter, prompt_tokens, tokens))
        began, asked = asyncio.get_running_loop().time(), Asked(adapter, prompt_tokens, tokens)
        is_short_pair = (prompt_tokens, tokens) == (SHORT, 2)
        is_slow = is_short_pair and next(self._pairs) % 10 == 0
        await asyncio.sleep(OVERHEAD * (2 if is_slow else 1))
        self._coming.append(asked)
        self._arrived.set()
        await asked.ended.wait()
        if tokens > 1 or not self._late:
            return Answer(began, asked.times)
        await asyncio.sleep(self._late)
        return Answer(began, [asked.times[0] + self._late])


@pytest.mark.parametrize("context", [1000, 100])
def test_known_costs_are_found(context: int) -> None:
    server = KnownServer(context)
    found = run(server.found())
    assert dict(found.steps) == pytest.approx({count: step(count) for count in TOGETHER})
    assert found.values["prefill_seconds"] == pytest.approx(PROMPT, rel=0.05)
    longer = {count: step(count) - step(SHORT) for count in PROMPTS[1:] if count <= context}
    assert dict(found.prompt_steps) == pytest.approx(longer)
    most = max(longer)
    mean = longer[most] / (most - SHORT)
    assert found.values["prefill_seconds_per_token"] == pytest.approx(mean)
    usual, slow = [OVERHEAD] * (ALONE * 9 // 10), [2 * OVERHEAD] * (ALONE // 10)
    measured = sorted(found.overheads(Trace()))
    assert measured == pytest.approx(usual + slow, abs=2e-4), "not the engine's"
    assert max(prompt for _, prompt, _ in server.asked) == (256 if context == 1000 else 64)


@pytest.mark.parametrize(("adapters", "slots"), [("ab", 2), ("abcdefgh", 8), ("abcdefgh", 3)])
def test_what_each_further_adapter_in_a_step_takes_is_found(adapters: str, slots: int) -> None:
    """Also where fewer run together than there are: those that take turns say nothing of it."""
    found = run(KnownServer(adapters=adapters, slots=slots).found())
    assert found.per_adapter_seconds == pytest.approx(FURTHER)
    assert dict(found.steps) == pytest.approx({count: step(count) for count in TOGETHER})


def test_of_one_adapter_it_is_not_known_what_another_takes() -> None:
    assert run(KnownServer(adapters="a").found()).per_adapter_seconds == 0


@pytest.mark.parametrize("steps", [0.7, 1.2])
def test_a_prompt_whose_token_comes_later_than_its_step_costs_as_much(steps: float) -> None:
    """On a GPU a step takes less than that: the cost was looked for in the step after it."""
    found = run(KnownServer(late=steps * ALONE_STEP).found())
    assert found.values["prefill_seconds"] == pytest.approx(PROMPT, rel=0.05)


def test_a_machine_that_is_slow_for_a_while_is_so_for_all_counts() -> None:
    """And not for those only that were measured just then."""
    found = run(KnownServer(slower=lambda now: 2.0 if now > 8 else 1.0).found())
    by_count = {count: seconds / step(count) for count, seconds in found.steps}
    assert min(by_count.values()) > 1.3
    assert max(by_count.values()) < 1.2 * min(by_count.values())


def test_no_first_token_comes_sooner_than_the_engine_s_part_of_it() -> None:
    """Steps may take longer while the client reads another answer: prompts alone do not."""
    server = KnownServer(slower=lambda now: 1.5 if now < 5.0 else 1.0)
    found = run(server.found())
    assert found.in_engine_seconds <= min(found.first_tokens) + 1e-9
    assert min(found.overheads(Trace())) >= 0


def test_only_steps_in_which_all_ran_count() -> None:
    first, second = Answer(0.0, [1.0, 2.0, 4.0, 6.0, 8.0]), Answer(0.5, [4.0, 6.0])
    assert whole_steps([first, second]) == [2.0, 2.0]
    assert whole_steps([first, Answer(0.5, [4.0])]) == []


def test_a_prompt_costs_what_all_steps_between_its_request_and_its_token_took_longer() -> None:
    stream = Answer(0.0, [1.0, 2.0, 5.0, 6.0, 7.0])
    once = Answer(2.5, [5.01])
    assert prompt_seconds([(stream, [once])]) == pytest.approx(2.0), "of 3 + 1, where 1 is usual"
    twice = [(stream, [once]), (Answer(0.0, [1.0, 3.0, 4.0]), [Answer(1.5, [2.9])])]
    assert prompt_seconds(twice) == pytest.approx((2.0 + 1.0) / 2)
    assert prompt_seconds([(stream, [])]) == 0
    assert prompt_seconds([(stream, [Answer(6.5, [7.5])])]) == 0, "it ends after the stream"
    each = [Answer(1.0, [2.0]), Answer(2.0, [5.0]), Answer(5.0, [7.0])]
    assert prompt_seconds([(stream, each)]) == 0, "nothing to compare with"


def test_a_line_through_steps_is_nowhere_below_nothing() -> None:
    assert line_of([(1, 0.012), (2, 0.014), (4, 0.018)]) == pytest.approx((0.010, 0.002))
    assert line_of([(1, 0.012), (2, 0.010)]) == pytest.approx((0.014, 0.0))
    assert line_of([(1, 0.001), (8, 0.1)])[0] == 0.0


def test_the_server_s_part_is_as_the_server_recorded_it_not_as_the_client_saw_it() -> None:
    measured = Measured({}, [], 0.020, [0.030] * 10, 10)
    others = [TracedRequest(1.0, "a:1", 2, prompt_tokens=9, first_token_seconds=5.0)] * 10
    earlier = [TracedRequest(2.0, "a:1", 2, prompt_tokens=SHORT, first_token_seconds=4.0)] * 10
    times = [0.021 + n / 1000 for n in range(10)]
    own = [TracedRequest(3.0, "a:1", 2, prompt_tokens=SHORT, first_token_seconds=t) for t in times]
    found = measured.overheads(Trace([*others, *earlier, *own]))
    assert found == pytest.approx([0.001 + n / 1000 for n in range(10)])
    assert measured.overheads(Trace(others)) == pytest.approx([0.010] * 10)


def test_each_adapter_is_asked_once_so_that_its_load_is_recorded() -> None:
    server = KnownServer()
    run(server.found())
    assert [adapter for adapter, _, _ in server.asked[:3]] == ["a", "b", "b"]


def test_it_says_how_many_requests_it_asked() -> None:
    server = KnownServer()
    assert run(server.found()).asked == len(server.asked)


def test_a_context_that_takes_no_prompt_is_a_clear_error() -> None:
    with pytest.raises(CommandError, match="takes no prompt of 16 tokens"):
        run(KnownServer(12).found())


def test_a_server_without_adapters_is_a_clear_error() -> None:
    with pytest.raises(CommandError, match="serves no adapters"):
        Calibration(httpx.AsyncClient(), [])
