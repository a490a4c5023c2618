"""Running requests: when vLLM's engine accepts a request, and when its work on it ends.

vLLM stores every request that its engine works on in `OutputProcessor.request_states`, from
`add_request` until it has finished or was aborted, whatever its reader does meanwhile (0.26 to
0.33). `RequestStates` replaces that table and sees the end of a request there: none of our code has
to follow its outputs.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from vllm.v1.engine.exceptions import EngineDeadError

from engine.background_tasks import BackgroundTasks
from engine.errors import EngineError, GenerationIncomplete
from engine.types import WorkDone
from engine.vllm.ends.last_output import ends_by, has_no_numbers, was_rejected


class RunningRequest:
    """One call of `AsyncLLM.add_request`: one entry of vLLM's table, or one for each completion.

    `on_end` is called exactly once, as soon as the engine's work on all of them has ended;
    `on_engine_death` before that, if the engine ended without a response; `on_error`, if it
    ended the request with an error, which it does if it can't compile or follow its grammar;
    `on_cut`, as `cut` is called, which returns what its reader gets in place of what there is.
    """

    def __init__(self) -> None:
        self.on_end: Callable[[WorkDone], None] = _ignore
        self.on_engine_death: Callable[[], None] = _nothing
        self.on_error: Callable[[], object] = _nothing
        self.on_cut: Callable[[str, bool], EngineError | None] = _no_error
        self.id: str | None = None
        """vLLM's own id, once it has one: of several completions, their parent's."""
        self.is_aborted = False
        self.is_left_by_pause = False
        """vLLM's engine can't end it as it ends others: its prompt is streamed, or it pools."""
        self.end_before_input: Callable[[], None] = _nothing
        """If its prompt is streamed, and none of it has come: vLLM does not know it then."""
        self._queue: Any = None  # of its outputs
        self._is_streamed = False
        self._working = 0
        self._is_being_added = True
        self._is_ended = False
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._first_token_at: float | None = None
        self._starts: dict[str, int] = {}
        self._shared: int | None = None

    def note_start(self, engine_id: str, start: int | None) -> None:
        """Where the effect of its activated adapter begins, in one entry of the table."""
        if start is not None:
            self._starts[engine_id] = start

    def add_state(self, state: Any) -> None:
        self._working += 1
        self.id = state.queue.request_id
        self._queue = state.queue
        self._prompt_tokens = state.prompt_len
        self._is_streamed = state.streaming_input
        self.is_left_by_pause = state.streaming_input or state.detokenizer is None

    def cut(self, outcome: str, *, is_forced: bool = False) -> None:
        """It is being ended from outside. `is_forced`: by this server, as an operator asked."""
        error = self.on_cut(outcome, is_forced)
        if error is not None and self._queue is not None:
            self._queue.put(error)

    def remove_state(self, state: Any) -> None:
        """Not yet the end: the engine may have to abort it first."""
        if state.detokenizer is not None:
            self._generated_tokens += state.detokenizer.num_output_tokens()
        if (start := self._starts.pop(state.request_id, None)) is not None:
            shared = min(start, state.num_cached_tokens)
            self._shared = shared if self._shared is None else min(shared, self._shared)
        if self._is_streamed:  # it grew, and each part of it has a first token
            self._prompt_tokens = state.prompt_len
            return
        stats = state.stats
        if stats is not None and stats.first_token_latency > 0:
            at = stats.arrival_time + stats.first_token_latency
            self._first_token_at = min(at, self._first_token_at or at)

    def end_work(self) -> None:
        """On one entry of the table."""
        self._working -= 1
        self._end_if_done()

    def finish_adding(self) -> None:
        """No further entry of it will be added to the table."""
        self._is_being_added = False
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._working or self._is_being_added or self._is_ended:
            return
        self._is_ended = True
        on_end, self.on_end = self.on_end, _ignore
        self.on_engine_death = self.on_error = _nothing
        self.on_cut = _no_error
        shared = self._shared or 0
        on_end(WorkDone(self._prompt_tokens, self._generated_tokens, self._first_token_at, shared))


def _ignore(work: WorkDone) -> None:
    return


def _no_error(outcome: str, is_forced: bool) -> None:
    return


def _nothing() -> None:
    return


_adding: ContextVar[RunningRequest | None] = ContextVar("adaptry_adding", default=None)


set_added_request, reset_added_request = _adding.set, _adding.reset
"""Until it is reset, new entries of vLLM's table belong to this request, also in tasks."""
added_request: Callable[[], RunningRequest | None] = _adding.get
"""The one that is being added in this task."""


def watch_input(queue: Any, running: RunningRequest) -> None:
    """It is added when its input has ended: immediately, unless its prompt is streamed."""
    task: asyncio.Task[None] | None = getattr(queue, "_input_stream_task", None)
    if task is None:
        running.finish_adding()
        return

    def end_before_input() -> None:
        queue.put(GenerationIncomplete())
        task.cancel()

    running.end_before_input = end_before_input
    running.is_left_by_pause = True
    task.add_done_callback(lambda _: running.finish_adding())


class RequestStates(dict[str, Any]):
    """Replaces `OutputProcessor.request_states`."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: dict[str, RunningRequest] = {}
        self._aborting: dict[str, RunningRequest] = {}
        self._removed: list[str] | None = None  # while outputs are processed

    def __setitem__(self, request_id: str, state: Any) -> None:
        super().__setitem__(request_id, state)
        if (request := _adding.get()) is not None:
            self._requests[request_id] = request
            request.add_state(state)

    def pop(self, request_id: str, *default: Any) -> Any:
        state = super().pop(request_id, *default)
        request = self._requests.pop(request_id, None)
        if request is None:
            return state
        request.remove_state(state)
        self._aborting[request_id] = request
        if self._removed is not None:
            self._removed.append(request_id)
            if was_rejected(state):
                request.on_engine_death()
                state.queue.put(EngineDeadError())
            elif ends_by(state, "error"):
                request.on_error()
            elif ends_by(state, "abort") or has_no_numbers(state):
                request.cut("failed")
        elif state.streaming_input and state.input_chunk_queue is None:
            self.end_work([request_id])  # the engine had finished before its input ended
        return state

    @contextmanager
    def record_removals(self) -> Iterator[list[str]]:
        """Yields the ids of requests that vLLM removes in the block while it processes outputs."""
        removed: list[str] = []
        self._removed = removed
        try:
            yield removed
        finally:
            self._removed = None

    def end_all(self) -> None:
        """vLLM leaves its requests in the table then, though no engine works on them."""
        for request in set(self._requests.values()):
            request.on_engine_death()
        for request_id in list(self):
            self.pop(request_id)
        self.end_work(list(self._aborting))

    def end_work(self, request_ids: Iterable[str]) -> None:
        """The engine has finished these, or was sent their abort."""
        for request_id in request_ids:
            if (request := self._aborting.pop(request_id, None)) is not None:
                request.end_work()


def watch_requests(output_processor: Any, engine_core: Any) -> None:
    """Track the requests of an engine in vLLM's own table.

    A request that ends by a stop string, or is aborted, has ended once the abort was sent to the
    engine: only then may its slot be reused.
    """
    states = RequestStates()
    process_outputs = output_processor.process_outputs
    propagate_error = output_processor.propagate_error
    abort = engine_core.abort_requests_async
    background = BackgroundTasks()

    def process_and_record_ends(*args: Any, **options: Any) -> Any:
        with states.record_removals() as removed:
            processed = process_outputs(*args, **options)
        if removed:
            to_abort = frozenset(processed.reqs_to_abort)
            states.end_work([each for each in removed if each not in to_abort])
        return processed

    def propagate_and_record_ends(error: Exception) -> None:
        propagate_error(error)
        states.end_all()

    async def abort_and_record_ends(request_ids: list[str]) -> None:
        try:
            await abort(request_ids)
        finally:
            states.end_work(request_ids)

    async def abort_shielded(request_ids: list[str]) -> None:
        """The abort is sent even if its caller is cancelled meanwhile."""
        await asyncio.shield(background.start(abort_and_record_ends(request_ids)))

    output_processor.request_states = states
    output_processor.process_outputs = process_and_record_ends
    output_processor.propagate_error = propagate_and_record_ends
    engine_core.abort_requests_async = abort_shielded
