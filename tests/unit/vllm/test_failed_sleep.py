"""Suspension: an engine is empty while it sleeps, even if that took several attempts."""

import asyncio
from typing import Any

import pytest
from vllm.v1.engine.async_llm import AsyncLLM

from engine.errors import (
    CallRefused,
    EngineAsleep,
    EnginePaused,
    EngineUnavailable,
    WeightUpdateRefused,
)
from engine.vllm.suspension import SuspendableAsyncLLM


class Upstream(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's client without its processes."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.idle = asyncio.Event()

    async def pause_generation(self, *, mode: str = "abort", **_: Any) -> None:
        self.calls.append("pause")
        if mode == "wait":
            await self.idle.wait()
        if mode not in ("abort", "wait"):
            raise ValueError(mode)

    async def resume_generation(self) -> None:
        self.calls.append("resume")

    async def sleep(self, level: int = 1, mode: str = "abort") -> None:
        self.calls.append("sleep")

    async def collective_rpc(self, method: str, *inputs: Any, **options: Any) -> list[Any]:
        self.calls.append(method)
        return [None]

    async def wake_up(self, tags: list[str] | None = None) -> bool:
        self.calls.append("wake")
        return True

    def shutdown(self, timeout: float | None = None) -> None:
        """There is nothing to end."""


class Engine(SuspendableAsyncLLM, Upstream):
    """Ours over that."""


class Listener:
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.fails = False

    async def on_sleep(self, why: EngineUnavailable) -> None:
        if self.fails:
            raise EngineUnavailable("it did not answer")
        self.calls.append("empty")

    async def on_wake(self) -> None:
        self.calls.append("fill")


@pytest.fixture
async def listener() -> Listener:
    return Listener([])


@pytest.fixture
async def engine(listener: Listener) -> Engine:
    made = Engine(listener.calls)
    made.sleep_listener = listener
    return made


async def test_it_answers_calls_while_it_sleeps_but_not_while_it_falls_asleep_or_wakes_up(
    engine: Engine, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    async def look(self: Any, *inputs: Any, **options: Any) -> bool:
        seen.append(engine.sleeps)
        return is_awake

    monkeypatch.setattr(Upstream, "sleep", look)
    monkeypatch.setattr(Upstream, "wake_up", look)
    is_awake = False
    for _ in range(2):
        await engine.sleep()
        assert engine.sleeps
    assert not await engine.wake_up(["weights"])
    assert engine.sleeps, "some of its memory only is back"
    is_awake = True
    assert await engine.wake_up()
    assert not engine.sleeps
    assert seen == [False] * 4


async def test_it_is_emptied_once_before_it_sleeps_and_filled_once_it_is_awake(
    engine: Engine, listener: Listener
) -> None:
    await engine.sleep()
    await engine.sleep()
    assert isinstance(engine.suspended, EngineAsleep)
    await engine.wake_up()
    await engine.wake_up()
    assert engine.suspended is None
    assert listener.calls == ["pause", "empty", "sleep", "pause", "sleep", "wake", "fill", "wake"]


@pytest.mark.parametrize("then", ["sleep", "wake_up", "resume_generation"])
async def test_what_could_not_be_emptied_is_emptied_by_the_next_call(
    engine: Engine, listener: Listener, then: str
) -> None:
    listener.fails = True
    with pytest.raises(EngineUnavailable):
        await engine.sleep()
    assert listener.calls == ["pause"], "it does not sleep with adapters"
    assert isinstance(engine.suspended, EngineAsleep)
    listener.fails = False
    await getattr(engine, then)()
    expected = {"sleep": ["pause", "empty", "sleep"]}.get(then, ["wake", "empty", "fill"])
    assert listener.calls[1:] == expected


async def test_a_pause_that_waits_for_generations_can_be_resumed(engine: Engine) -> None:
    pausing = asyncio.create_task(engine.pause_generation(mode="wait"))
    await asyncio.sleep(0)
    assert isinstance(engine.suspended, EnginePaused)
    async with asyncio.timeout(30):
        await engine.resume_generation()
    assert engine.suspended is None
    engine.idle.set()
    await pausing
    assert engine.suspended is None


async def test_a_pause_that_is_given_up_may_still_come(engine: Engine) -> None:
    """Its caller has left, and vLLM goes on; what vLLM refuses pauses nothing."""
    pausing = asyncio.create_task(engine.pause_generation(mode="wait"))
    await asyncio.sleep(0)
    pausing.cancel()
    await asyncio.gather(pausing, return_exceptions=True)
    assert isinstance(engine.suspended, EnginePaused)
    await engine.resume_generation()
    with pytest.raises(ValueError, match="never"):
        await engine.pause_generation(mode="never")
    assert engine.suspended is None


@pytest.mark.parametrize(
    "method",
    [
        *("update_weights", "load_model", "reload_weights", "reset_weights"),
        *("init_weight_transfer_engine", "start_weight_update", "finish_weight_update"),
        "start_draft_weight_update",
    ],
)
async def test_no_weights_reach_the_workers(
    engine: Engine, listener: Listener, method: str
) -> None:
    for arguments in ((), ({"names": ["lora_A"], "tensors": "AAAA"},)):
        with pytest.raises(WeightUpdateRefused):
            await engine.collective_rpc(method, None, arguments)
    with pytest.raises(WeightUpdateRefused):
        await engine.update_weight_version("2")
    assert listener.calls == []


async def test_the_workers_are_not_called_past_the_cache(
    engine: Engine, listener: Listener
) -> None:
    for method in ("sleep", "wake_up", "add_lora", "adaptry_apply", "_adaptry_move", "shutdown"):
        with pytest.raises(CallRefused):
            await engine.collective_rpc(method=method, timeout=None, args=(), kwargs={})
    others: list[Any] = [5, True, ["reload_weights"], {"name": "sleep"}]
    for other in others:
        with pytest.raises(CallRefused, match="a text"):
            await engine.collective_rpc(method=other, timeout=None, args=(), kwargs={})
    with pytest.raises(WeightUpdateRefused):
        await engine.collective_rpc("reload_weights")
    with pytest.raises(CallRefused, match="timeout"):
        await engine.collective_rpc(method="check_health", timeout=1.0)
    assert listener.calls == []
    await engine.collective_rpc(method="check_health", timeout=None, args=(), kwargs={})
    await engine.call_workers("adaptry_apply", ([],))
    assert listener.calls == ["check_health", "adaptry_apply"]
