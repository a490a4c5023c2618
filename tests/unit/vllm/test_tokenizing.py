"""Tokenizing: turns between callers, threads freed by who leaves, and no text that can't fit."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError

from engine.vllm.tokenizing.bounds import PIECE_CHARS, bound_prompts
from engine.vllm.tokenizing.threads import (
    LONG,
    FairThreads,
    share_media_thread,
    share_threads,
)
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE

TEXT = "x" * (LONG + 1)
MAX_TOKENS = 100_000


class Tokenizer:
    """A token for each character. `counted`: characters that were encoded."""

    max_chars_per_token = 100
    truncation_side = "right"

    def __init__(self) -> None:
        self.counted = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def encode(self, text: str, **options: Any) -> list[int]:
        assert self.may_go.wait(10)
        self.counted += len(text)
        return [0] * len(text)


class Renderer:
    def __init__(self) -> None:
        self.model_config = SimpleNamespace(max_model_len=MAX_TOKENS, runner_type="generate")
        self.tokenizer = Tokenizer()
        self._executor = FairThreads(2, lambda: "nobody")
        self.tokenized: list[str] = []

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    async def _tokenize_prompt_async(self, prompt: Any, params: Any) -> None:
        self.tokenized.append(prompt["prompt"])

    async def _async_tokenizer_decode(self, tokens: list[int]) -> str:
        return "x" * len(tokens)


class Stage:
    """Two threads, and jobs that run until they are let go."""

    def __init__(self) -> None:
        self.caller = "noisy"
        self.threads = FairThreads(2, lambda: self.caller)
        self.done: list[str] = []
        self.may_end = threading.Event()

    def begin(self, caller: str, name: str, text: str = "") -> "asyncio.Future[None]":
        self.caller = caller
        loop = asyncio.get_running_loop()
        return asyncio.ensure_future(loop.run_in_executor(self.threads, self._work, name, text))

    def _work(self, name: str, text: str) -> None:
        assert self.may_end.wait(10)
        self.done.append(name)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.may_end.set()
    stage.threads.shutdown()


async def test_long_jobs_leave_a_thread_for_short_ones(stage: Stage) -> None:
    longs = [stage.begin("noisy", f"long{n}", TEXT) for n in range(5)]
    await asyncio.sleep(0.05)
    assert stage.threads.running == 1, "one of two threads"
    stage.begin("other", "short")
    assert stage.threads.running == 2
    stage.may_end.set()
    await asyncio.wait_for(asyncio.gather(*longs), 10)


async def test_callers_take_turns(stage: Stage) -> None:
    jobs = [stage.begin("noisy", f"noisy{n}", TEXT) for n in range(20)]
    jobs += [stage.begin("other", f"other{n}", TEXT) for n in range(2)]
    stage.may_end.set()
    await asyncio.wait_for(asyncio.gather(*jobs), 10)
    assert stage.done[:5] == ["noisy0", "noisy1", "other0", "noisy2", "other1"]


async def test_who_leaves_frees_its_place(stage: Stage) -> None:
    running = stage.begin("noisy", "running", TEXT)
    left = [stage.begin("noisy", f"left{n}", TEXT) for n in range(9)]
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert stage.threads.waiting == 0
    stage.may_end.set()
    await asyncio.wait_for(running, 10)
    await asyncio.wait_for(stage.begin("other", "last", TEXT), 10)
    assert stage.done == ["running", "last"]


async def test_a_stuck_thread_is_replaced(stage: Stage) -> None:
    stuck = [stage.begin("noisy", f"stuck{n}") for n in range(2)]
    await asyncio.sleep(0.05)
    stage.threads.replace_inner()
    assert stage.threads.running == 0
    stage.may_end.set()
    await asyncio.wait_for(stage.begin("other", "next"), 10)
    await asyncio.wait_for(asyncio.gather(*stuck), 10)
    async with asyncio.timeout(10):
        while stage.threads.running:  # a thread counts until after its result is there
            await asyncio.sleep(0.001)


def test_the_renderer_of_vllm_works_on_them() -> None:
    renderer: Any = SimpleNamespace(
        model_config=SimpleNamespace(runner_type="generate"),
        mm_processor=None,
        _executor=FairThreads(1, lambda: None),
        _resources=ExitStack(),
    )
    threads = share_threads(renderer)
    assert threads is not None
    assert renderer._executor.submit == threads.submit
    renderer._resources.close()  # as its engine ends
    with pytest.raises(RuntimeError):
        threads.submit(print)
    assert share_threads(None) is None


def test_the_renderer_of_the_oldest_vllm_shuts_them_down_by_its_own_method() -> None:
    renderer: Any = SimpleNamespace(
        model_config=SimpleNamespace(runner_type="generate"),
        mm_processor=None,
        _executor=FairThreads(1, lambda: None),
    )
    threads = share_threads(renderer)
    assert threads is not None
    renderer._executor.shutdown(wait=False)  # all that 0.26 has
    with pytest.raises(RuntimeError):
        threads.submit(print)


async def test_callers_take_turns_with_images_on_the_one_thread_behind_its_warm_up() -> None:
    pool = ThreadPoolExecutor(1)
    renderer: Any = SimpleNamespace(_mm_executor=pool)
    may_end, done = threading.Event(), list[str]()

    def work(name: str) -> str:
        assert may_end.wait(10)
        done.append(f"{name} on {threading.current_thread().name}")
        return name

    warm_up = pool.submit(work, "warm-up")
    threads = share_media_thread(renderer)
    assert threads is not None
    loop = asyncio.get_running_loop()
    jobs = []
    for caller, name in [("noisy", f"noisy{n}") for n in range(4)] + [("other", "other")]:
        with as_caller(Caller(f"{caller}~key", EVERY_SCOPE)):
            jobs.append(loop.run_in_executor(pool, work, name))
    may_end.set()
    assert await asyncio.gather(*jobs) == ["noisy0", "noisy1", "noisy2", "noisy3", "other"]
    assert warm_up.done()
    assert [line.split(" on ")[0] for line in done] == [
        *("warm-up", "noisy0", "noisy1", "other", "noisy2", "noisy3"),
    ]
    assert len({line.split(" on ")[1] for line in done}) == 1
    pool.shutdown()
    assert share_media_thread(SimpleNamespace()) is None


def params(**truncation: Any) -> Any:
    given = {
        "truncate_prompt_tokens": None,
        "truncation_side": None,
        "max_total_tokens": None,
        **truncation,
    }
    return SimpleNamespace(**given)


async def test_a_text_over_the_models_length_is_refused_before_it_is_tokenized() -> None:
    renderer: Any = Renderer()
    bound_prompts(renderer)
    with pytest.raises(VLLMValidationError):
        await renderer._tokenize_prompt_async({"prompt": "x" * (MAX_TOKENS * 101)}, params())
    assert renderer.tokenizer.counted == 0, "by the length of the longest token"
    with pytest.raises(VLLMValidationError):
        await renderer._tokenize_prompt_async({"prompt": "x" * (MAX_TOKENS * 50)}, params())
    assert renderer.tokenizer.counted <= MAX_TOKENS + 2 * PIECE_CHARS, "by its first tokens"
    assert renderer.tokenized == []
    await renderer._tokenize_prompt_async({"prompt": "x" * MAX_TOKENS}, params())
    assert len(renderer.tokenized) == 1
    chunked = params(max_total_tokens=2 * MAX_TOKENS)  # of a pooling model
    await renderer._tokenize_prompt_async({"prompt": "x" * 2 * MAX_TOKENS}, chunked)
    assert len(renderer.tokenized) == 2
    with pytest.raises(VLLMValidationError):
        await renderer._async_tokenizer_decode([1] * (MAX_TOKENS + 1))
    assert await renderer._async_tokenizer_decode([1] * 9) == "x" * 9


@pytest.mark.parametrize("side", ["left", "right"])
async def test_what_is_truncated_is_cut_before(side: str) -> None:
    renderer: Any = Renderer()
    bound_prompts(renderer)
    text = "a" + "x" * (MAX_TOKENS * 50) + "z"
    wanted = params(truncate_prompt_tokens=-1, truncation_side=side)
    await renderer._tokenize_prompt_async({"prompt": text}, wanted)
    (cut,) = renderer.tokenized
    assert MAX_TOKENS < len(cut) <= MAX_TOKENS + 2 * PIECE_CHARS
    assert cut.endswith("z") if side == "left" else cut.startswith("a")


async def test_no_piece_follows_when_the_caller_leaves() -> None:
    renderer: Any = Renderer()
    bound_prompts(renderer)
    renderer.tokenizer.may_go.clear()
    text = {"prompt": "x" * (MAX_TOKENS * 50)}
    task = asyncio.ensure_future(renderer._tokenize_prompt_async(text, params()))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    renderer.tokenizer.may_go.set()
    for _ in range(100):
        if not renderer._executor.running:
            break
        await asyncio.sleep(0.02)
    assert (renderer._executor.running, renderer._executor.waiting) == (0, 0)
    assert renderer.tokenizer.counted == PIECE_CHARS
