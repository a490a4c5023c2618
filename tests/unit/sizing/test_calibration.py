"""Calibration: the costs that it finds are those of a server whose costs are known."""

import asyncio

import httpx
import pytest

from adaptry.client.errors import InvalidRequest
from adaptry.sizing.calibration import ALONE, SHORT, TOKENS, Calibration, Measured, Timed
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace, TracedRequest

STEP, PER_REQUEST, PREFILL, PER_TOKEN = 0.010, 0.002, 0.030, 0.0005
OVERHEAD = 0.004  # and twice as much for one in ten


class KnownServer(Calibration):
    """A server of these costs, which takes prompts of `context` tokens."""

    def __init__(self, context: int = 1000) -> None:
        super().__init__(httpx.AsyncClient(), ["a", "b"])
        self._context = context
        self.asked: list[tuple[str, int, int]] = []
        self._running = 0
        self._first_token_count = 0
        self._joined = 0  # prompts that began while others ran

    async def _ask(self, adapter: str, prompt_tokens: int, tokens: int = TOKENS) -> Timed:
        if prompt_tokens > self._context:
            raise InvalidRequest(400, "", "too long", retry_after_seconds=None, problem={})
        self.asked.append((adapter, prompt_tokens, tokens))
        self._running += 1
        self._joined += tokens == 1 and self._running > 1
        began = self._joined
        await asyncio.sleep(0.06 if tokens == TOKENS else 0)  # all that ask together are counted
        step = STEP + PER_REQUEST * (1 if tokens < TOKENS else self._running)
        await asyncio.sleep(0)
        self._running -= 1
        self._first_token_count += tokens == 2
        overhead = OVERHEAD * (2 if self._first_token_count % 10 == 1 else 1)
        first = overhead + PREFILL + PER_TOKEN * prompt_tokens + step
        joint = step + PER_REQUEST + PREFILL + PER_TOKEN * SHORT
        joints = self._joined - began
        return Timed(first, [joint] * joints + [step] * (tokens - 1 - joints))


@pytest.mark.parametrize("context", [1000, 100])
async def test_known_costs_are_found(context: int) -> None:
    server = KnownServer(context)
    found = await server.measure()
    assert found.values == pytest.approx(
        {
            "step_seconds": STEP,
            "step_seconds_per_request": PER_REQUEST,
            "prefill_seconds": PREFILL,
            "prefill_seconds_per_token": PER_TOKEN,
        }
    )
    usual, slow = [OVERHEAD] * (ALONE * 9 // 10), [2 * OVERHEAD] * (ALONE // 10)
    assert sorted(found.overheads(Trace())) == pytest.approx(usual + slow), "not the engine's"
    assert max(prompt for _, prompt, _ in server.asked) == (256 if context == 1000 else 64)


def test_the_server_s_part_is_as_the_server_recorded_it_not_as_the_client_saw_it() -> None:
    measured = Measured({}, 0.020, [0.030] * 10)
    others = [TracedRequest(1.0, "a:1", 2, prompt_tokens=9, first_token_seconds=5.0)] * 10
    earlier = [TracedRequest(2.0, "a:1", 2, prompt_tokens=SHORT, first_token_seconds=4.0)] * 10
    times = [0.021 + n / 1000 for n in range(10)]
    own = [TracedRequest(3.0, "a:1", 2, prompt_tokens=SHORT, first_token_seconds=t) for t in times]
    found = measured.overheads(Trace([*others, *earlier, *own]))
    assert found == pytest.approx([0.001 + n / 1000 for n in range(10)])
    assert measured.overheads(Trace(others)) == pytest.approx([0.010] * 10)


async def test_each_adapter_is_asked_once_so_that_its_load_is_recorded() -> None:
    server = KnownServer()
    await server.touch_adapters()
    assert [adapter for adapter, _, _ in server.asked] == ["a", "b"]


async def test_a_context_that_takes_no_prompt_is_a_clear_error() -> None:
    with pytest.raises(CommandError, match="takes no prompt of 16 tokens"):
        await KnownServer(12).measure()


def test_a_server_without_adapters_is_a_clear_error() -> None:
    with pytest.raises(CommandError, match="serves no adapters"):
        Calibration(httpx.AsyncClient(), [])
