"""Engine client: vLLM's, the only way for requests into the engine.

A request is admitted before vLLM gets it (its adapter is leased) and ends when the engine's work on
it ends. Its outputs go from vLLM to vLLM's routes; none of our code wraps them.
"""

import itertools
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.pooling_params import PoolingParams
from vllm.v1.engine.exceptions import EngineDeadError

from engine.activated_lora.marks import activate_request, is_activated
from engine.background_tasks import BackgroundTasks
from engine.errors import EngineError, EngineUnavailable, GrammarUnsatisfiable
from engine.gateway.grammar_bounds import GrammarGate
from engine.gateway.priority import check_priority
from engine.gateway.request_context import RequestContext, current_request
from engine.types import VersionId, WorkDone
from engine.vllm.admission.held_leases import held_lease
from engine.vllm.admission.port import AdmittedRequest, RequestAdmission
from engine.vllm.ends.unfinished_pooling import fill_unfinished_pooling
from engine.vllm.grammars.empty_grammars import is_blamed_for_errors
from engine.vllm.running_requests import (
    RunningRequest,
    added_request,
    reset_added_request,
    set_added_request,
    watch_input,
    watch_requests,
)
from engine.vllm.suspension import SuspendableAsyncLLM
from engine.vllm.tenant_isolation import tenant_cache_salt, tenant_request_id
from engine.vllm.tokenizing.prompt_tail import decode_from_tail
from engine.vllm.unsendable import UNSENDABLE, invalid


class LeasedAsyncLLM(SuspendableAsyncLLM):
    """vLLM's engine client, whose requests are admitted first.

    `generate`, `encode` and all else that vLLM's routes call end in `add_request`.
    """

    admission: RequestAdmission
    grammars: GrammarGate | None = None  # none for scripts

    def __init__(self, *inputs: Any, **options: Any) -> None:
        super().__init__(*inputs, **options)
        self._background = BackgroundTasks()
        self._pools = False
        self._numbers = itertools.count(1)
        self._engine_ids: dict[str, dict[str, RunningRequest]] = {}
        _prepare_requests(self.engine_core)
        watch_requests(self.output_processor, self.engine_core)
        decode_from_tail(self.output_processor)

    async def add_request(
        self,
        request_id: str,
        prompt: Any,
        params: Any,
        *inputs: Any,
        lora_request: LoRARequest | None = None,
        priority: int = 0,
        **options: Any,
    ) -> Any:
        """Raises PriorityNotAllowed, what `RequestAdmission.admit` raises, and vLLM's errors."""
        await self._check(params, priority)
        if isinstance(params, PoolingParams) and not self._pools:
            self._pools = True
            fill_unfinished_pooling(self.output_processor)
        running = RunningRequest()
        requested = None if lora_request is None else lora_request.lora_int_id
        running.on_cut = partial(self._on_cut, current_request(), params)
        admitted = await self._admit(requested, partial(self._cut, running))
        if self.suspended is not None:  # since it began to wait
            admitted.on_end(WorkDone(0, 0, None))
            raise _as_answer(self.suspended)
        engine_id = self._new_engine_id(request_id, running)
        running.on_end = partial(self._request_ended, engine_id, admitted)
        running.on_engine_death = partial(self._report_death, admitted)
        if is_blamed_for_errors(params, getattr(self, "vllm_config", None)):
            running.on_error = partial(copy_context().run, _as_answer, GrammarUnsatisfiable())
        if (trace_headers := admitted.trace_headers) is not None:
            options["trace_headers"] = trace_headers
        try:
            before = set_added_request(running)
            try:
                queue = await super().add_request(
                    engine_id,
                    prompt,
                    params,
                    *inputs,
                    lora_request=lora_request,
                    priority=priority,
                    **options,
                )
            finally:
                reset_added_request(before)
        except BaseException as error:
            if isinstance(error, EngineDeadError):
                self._report_death(admitted)
            self._abort_running(running)  # vLLM doesn't, if it is cancelled meanwhile
            running.finish_adding()
            raise
        watch_input(queue, running)
        if running.is_aborted:  # perhaps before the request reached vLLM
            self._abort_running(running)
        return queue

    async def abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """All running requests with this id, as a client or one of vLLM's routes chose it."""
        if not internal:
            ids = [request_id] if isinstance(request_id, str) else request_id
            known = [self._engine_ids.get(tenant_request_id(each), {}) for each in ids]
            for running in [each for requests in known for each in requests.values()]:
                running.cut("cancelled")
            request_id = [engine_id for requests in known for engine_id in requests]
        await super().abort(request_id, internal)

    async def _check(self, params: Any, priority: int) -> None:
        """Whether it may enter at all, before it waits for its adapter."""
        if self.suspended is not None:
            raise _as_answer(self.suspended)
        wanted = getattr(params, "structured_outputs", None)
        try:
            if priority:
                check_priority(priority)
            if wanted is not None and self.grammars is not None:
                await self.grammars.admit(wanted)
        except EngineError as error:
            raise _as_answer(error) from None

    async def _admit(
        self, requested: VersionId | None, abort: Callable[[], None]
    ) -> AdmittedRequest:
        held = held_lease()
        return await self.admission.admit(requested, abort) if held is None else held.admit()

    def _new_engine_id(self, request_id: str, running: RunningRequest) -> str:
        """A unique one: two clients may choose the same id, and neither may abort the other's."""
        chosen = tenant_request_id(request_id)
        engine_id = f"{chosen}~{next(self._numbers)}"
        self._engine_ids.setdefault(chosen, {})[engine_id] = running
        return engine_id

    def _request_ended(self, engine_id: str, admitted: AdmittedRequest, work: WorkDone) -> None:
        chosen = engine_id.rpartition("~")[0]
        del self._engine_ids[chosen][engine_id]
        if not self._engine_ids[chosen]:
            del self._engine_ids[chosen]
        admitted.on_end(work)

    def _report_death(self, admitted: AdmittedRequest) -> None:
        """vLLM ends what has no token yet in the same way at a pause."""
        admitted.on_engine_death(self.suspended or EngineUnavailable("it ended"))

    def end_requests(self) -> None:
        """vLLM's engine would go on with the next part of a streamed prompt without those before
        it, and its front end fails where pooling has no numbers (0.26 to 0.33).
        """
        for running in [each for known in self._engine_ids.values() for each in known.values()]:
            if running.is_left_by_pause:
                self._cut(running)

    def _cut(self, running: RunningRequest) -> None:
        """Its adapter is evicted by force, or the engine paused."""
        running.cut("failed", is_forced=True)
        self._abort_running(running)

    def _on_cut(
        self, request: RequestContext | None, params: Any, outcome: str, is_forced: bool
    ) -> EngineError | None:
        """vLLM answers with what there is: of pooling, that would be a vector without numbers."""
        if request is None:
            return None
        request.cut = outcome
        if not request.fails_if_cut and not isinstance(params, PoolingParams):
            return None
        gone = None if is_forced else EngineUnavailable("it ended")
        request.failure = request.why_cut(self.suspended or gone)
        return request.failure if request.fails_if_cut else None

    def _abort_running(self, running: RunningRequest) -> None:
        running.is_aborted = True
        if running.id is not None:
            self._background.start(super().abort(running.id, internal=True))
        else:
            running.end_before_input()


def _as_answer(error: EngineError) -> EngineError:
    """Becomes the response of the request that runs, if it is one over HTTP."""
    if (request := current_request()) is not None:
        request.failure = error
    return error


def _prepare_requests(core: Any) -> None:
    """Every request is sent here: each of `n` completions, each part of an input stream."""
    send = core.add_request_async

    async def send_prepared(request: Any) -> None:
        request.cache_salt = tenant_cache_salt(request.cache_salt)
        if is_activated(request.lora_request):
            _note_start(request.request_id, activate_request(request))
        try:
            await send(request)
        except UNSENDABLE as error:
            raise invalid(error) from None

    core.add_request_async = send_prepared


def _note_start(engine_id: str, start: int | None) -> None:
    if (running := added_request()) is not None:
        running.note_start(engine_id, start)
    if (request := current_request()) is not None:
        request.on_invocation(start is not None)
