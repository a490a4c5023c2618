"""Suspension: an operator has paused the engine or put it to sleep by vLLM's own routes.

Meanwhile requests are refused: vLLM would accept them, and they would hold their slots until it
goes on. An engine that sleeps has no adapters: its slots are emptied before vLLM takes their
memory away, and filled again when it is awake.
"""

import asyncio
from typing import Any, Protocol

from vllm.v1.engine.async_llm import AsyncLLM

from engine.errors import (
    CallRefused,
    EngineAsleep,
    EnginePaused,
    EngineUnavailable,
    SleepRefused,
    WeightUpdateRefused,
)

_CHANGES_WEIGHTS = frozenset(
    {
        "finish_weight_update",
        "init_weight_transfer_engine",
        "load_model",
        "reload_weights",
        "reset_weights",
        "start_draft_weight_update",
        "start_weight_update",
        "update_weights",
    }
)


_ROUTES = {"sleep": "/sleep", "wake_up": "/wake_up"}
_OF_THE_CACHE = frozenset(
    {
        *("add_lora", "remove_lora", "pin_lora", "load_lora", "remove_all_loras"),
        *("discard", "execute_model", "sample_tokens", "shutdown", "checkpoint_restore"),
    }
)
_OWN_PREFIX = "adaptry_"


class SleepListener(Protocol):
    """Is notified before the engine's memory is taken away, and once it is back."""

    async def on_sleep(self, why: EngineUnavailable) -> None:
        """No request runs. Returns once no adapter is in the engine."""

    async def on_wake(self) -> None: ...


class SuspendableAsyncLLM(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's engine client, which knows whether the engine was paused or sleeps.

    `suspended`: why no request may enter now. `sleep_listener`: None for scripts.
    """

    suspended: EngineUnavailable | None = None
    sleeps = False
    """It has fallen asleep, which may take long, and is not being woken up: it answers calls."""

    sleep_listener: SleepListener | None = None

    def __init__(self, *inputs: Any, **options: Any) -> None:
        super().__init__(*inputs, **options)
        self._suspending = asyncio.Lock()
        self._is_emptied = False

    async def pause_generation(self, *inputs: Any, **options: Any) -> None:
        """Beside the others: with `wait` it takes as long as the longest generation, and may be
        resumed before.
        """
        await self._pause(*inputs, **options)

    async def resume_generation(self) -> None:
        """An engine that sleeps is woken up: without its memory it can't go on."""
        async with self._suspending:
            if isinstance(self.suspended, EngineAsleep):
                await self._wake_up(None)
            else:
                await super().resume_generation()
                self.suspended = None

    async def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """Raises SleepRefused for what would leave the base model or an adapter unsure."""
        _check_sleep(level, mode)
        async with self._suspending:
            if level == 0:
                await self._pause(mode=mode)
                return
            await self._pause(mode=mode)
            self.suspended = EngineAsleep()
            await self._empty(self.suspended)
            self.sleeps = False
            await super().sleep(level, mode)
            self.sleeps = True

    async def release_kv_cache_memory(self) -> None:
        async with self._suspending:
            await super().release_kv_cache_memory()
            self.suspended = self.suspended or EnginePaused()

    async def wake_up(self, tags: list[str] | None = None) -> bool:
        async with self._suspending:
            return await self._wake_up(tags)

    async def collective_rpc(
        self, method: Any, timeout: float | None = None, *inputs: Any, **options: Any
    ) -> list[Any]:
        """For vLLM's routes. Raises WeightUpdateRefused, CallRefused.

        Versions are bound to the base model that was loaded; what adapters a worker has, the cache
        decides; and the next call would read the reply that a timeout left behind.
        """
        if not isinstance(method, str):
            raise CallRefused("a method is called by its name, a text")
        name = method
        if name in _CHANGES_WEIGHTS:
            raise WeightUpdateRefused(name)
        if name in _ROUTES:
            raise CallRefused(f"{name} has a route of its own: {_ROUTES[name]}")
        if name in _OF_THE_CACHE or name.lstrip("_").startswith(_OWN_PREFIX):
            raise CallRefused(f"{name} is the cache's to call: see /api/v1/cache")
        if timeout is not None:
            raise CallRefused("a call with a timeout would leave its reply to the next one")
        replies: list[Any] = await super().collective_rpc(method, None, *inputs, **options)
        return replies

    async def call_workers(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        """For the cache: one reply of each worker."""
        replies: list[Any] = await super().collective_rpc(method, args=args)
        return replies

    async def update_weight_version(self, new_version: str) -> None:
        raise WeightUpdateRefused("update_weight_version")

    async def _wake_up(self, tags: list[str] | None) -> bool:
        slept, self.sleeps = self.sleeps, False
        is_awake = bool(await super().wake_up(tags))
        if not is_awake:
            self.sleeps = slept
            return False
        if isinstance(self.suspended, EngineAsleep):
            await self._empty(self.suspended)
        self.suspended = None
        if self._is_emptied and self.sleep_listener is not None:
            self._is_emptied = False
            await self.sleep_listener.on_wake()
        return True

    async def _empty(self, why: EngineUnavailable) -> None:
        """Unless it is. What failed before is tried again: the listener believes it empty."""
        if self.sleep_listener is not None and not self._is_emptied:
            await self.sleep_listener.on_sleep(why)
            self._is_emptied = True

    def end_requests(self) -> None:
        """Those that vLLM's engine does not end well when it is paused."""

    async def _pause(self, *inputs: Any, **options: Any) -> None:
        paused = EnginePaused()
        self.suspended = self.suspended or paused
        if options.get("mode", "abort") == "abort":
            self.end_requests()
        try:
            await super().pause_generation(*inputs, **options)
        except Exception:  # not when cancelled: vLLM goes on pausing
            if self.suspended is paused:
                self.suspended = None
            raise


def _check_sleep(level: int, mode: str) -> None:
    if level >= 2:
        raise SleepRefused(
            "level 2 throws the weights of the base model away: stop the server instead"
        )
    if level == 1 and mode == "keep":
        raise SleepRefused("requests that are kept would keep their adapters: use abort or wait")
