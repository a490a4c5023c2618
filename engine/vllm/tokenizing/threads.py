"""Tokenizer threads: vLLM's tokenizing, in turns between callers and on several threads.

vLLM has one thread and a line in the order of arrival: one long text kept all others waiting.
Images and audio have another such thread.
"""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from registry.auth.sender import current_sender

LONG = 2**13
"""Characters or tokens. A thread remains for what is shorter."""

_SIZED = (str, list, bytes)


@dataclass(slots=True)
class _Job:
    future: "Future[Any]"
    work: Callable[[], Any]
    is_long: bool


class FairThreads(Executor):
    """Callers that wait take turns, each with its oldest job. A job whose caller has left is not
    begun, and long jobs never take all of several threads.
    """

    def __init__(
        self, threads: int, caller: Callable[[], Hashable], pool: Executor | None = None
    ) -> None:
        """`pool`: where they run, if these threads are there already."""
        self._threads = threads
        self._max_long = max(threads - 1, 1)
        self._caller = caller
        self._pool = pool or ThreadPoolExecutor(threads, thread_name_prefix="tokenizer")
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._running = self._running_long = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        """Those of callers that have left are not counted."""
        with self._lock:
            jobs = [job for queue in self._waiting.values() for job in queue]
        return sum(not job.future.cancelled() for job in jobs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        work = partial(fn, *args, **kwargs)
        is_long = _size_of(work) > LONG
        with self._lock:
            pool = self._pool
            if self._waiting or not self._has_thread(is_long=is_long):
                job = _Job(Future(), work, is_long)
                self._waiting.setdefault(self._caller(), deque()).append(job)
                self._start_next()
                return job.future
            begun = pool.submit(work)  # nearly always: without a second future
            self._running += 1
            self._running_long += is_long
        begun.add_done_callback(lambda _: self._end(pool, is_long=is_long))  # or cancelled
        return begun

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def replace_inner(self) -> None:
        """vLLM asks for it when a template renders for too long: its thread can't be ended."""
        with self._lock:
            stuck, self._pool = self._pool, ThreadPoolExecutor(self._threads)
            self._running = self._running_long = 0
        stuck.shutdown(wait=False)

    def _has_thread(self, *, is_long: bool) -> bool:
        is_free = self._running < self._threads
        return is_free and not (is_long and self._running_long >= self._max_long)

    def _start_next(self) -> None:
        while self._running < self._threads and (job := self._next_job()) is not None:
            self._running += 1
            self._running_long += job.is_long
            self._pool.submit(self._run, job, self._pool)

    def _next_job(self) -> _Job | None:
        for caller, queue in list(self._waiting.items()):
            while queue and queue[0].future.cancelled():
                queue.popleft()
            if queue and queue[0].is_long and self._running_long >= self._max_long:
                continue
            del self._waiting[caller]
            if not queue:
                continue
            job = queue.popleft()
            if queue:
                self._waiting[caller] = queue  # behind the others
            return job
        return None

    def _run(self, job: _Job, pool: Executor) -> None:
        if job.future.set_running_or_notify_cancel():
            try:
                result = job.work()
            except BaseException as error:
                job.future.set_exception(error)
            else:
                job.future.set_result(result)
        self._end(pool, is_long=job.is_long)

    def _end(self, pool: Executor, *, is_long: bool) -> None:
        with self._lock:
            if pool is self._pool:
                self._running -= 1
                self._running_long -= is_long
            if self._waiting:
                self._start_next()


def share_threads(renderer: Any) -> FairThreads | None:
    """Let the engine's renderer work on threads of ours.

    None where it has none to replace (older vLLM), and for pooling with images, whose cache
    is for one thread.
    """
    executor = getattr(renderer, "_executor", None)  # what vLLM wraps its functions for
    if executor is None:
        return None
    if renderer.model_config.runner_type == "pooling" and renderer.mm_processor is not None:
        return None
    threads = FairThreads(max(2, min(os.cpu_count() or 2, 4)), current_sender)
    executor.shutdown(wait=False)
    executor.submit = threads.submit
    executor.shutdown = threads.shutdown
    executor.replace_inner = threads.replace_inner
    if hasattr(renderer, "_resources"):  # 0.26 shuts the executor down by its own method
        renderer._resources.callback(threads.shutdown, wait=False)
    return threads


def share_media_thread(renderer: Any) -> FairThreads | None:
    """Let callers take turns with images and audio too, on vLLM's one thread.

    It has to be one: its cache and the engine's see everything in the same order. None where
    there is no such thread.
    """
    executor = getattr(renderer, "_mm_executor", None)
    if not isinstance(executor, ThreadPoolExecutor):
        return None
    threads = FairThreads(1, current_sender, _AsItWas(executor))
    executor.submit = threads.submit  # type: ignore[method-assign]  # its functions have it
    return threads


class _AsItWas(Executor):
    """An executor whose `submit` is replaced, with its own: what runs on it comes first."""

    def __init__(self, executor: Executor) -> None:
        self._submit = executor.submit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return self._submit(fn, *args, **kwargs)


def _size_of(work: "partial[Any]") -> int:
    """Of the texts and tokens among the arguments, those in a prompt and in a partial included."""
    given = work.args
    if isinstance(work.func, partial):
        given += work.func.args
    longest = 0
    for value in given:
        length = len(value) if type(value) is str else _length(value)  # nearly always
        longest = max(longest, length)
    return longest


def _length(value: Any) -> int:
    if isinstance(value, dict):
        text, ids = value.get("prompt"), value.get("prompt_token_ids")
        length = len(text) if type(text) is str else _length(text)
        return length if ids is None else max(length, _length(ids))
    if not isinstance(value, _SIZED):
        return 0
    if isinstance(value, list) and value and isinstance(value[0], dict):  # a conversation
        return sum(_length(message.get("content")) for message in value)
    return len(value)
