"""Offline engine: vLLM's synchronous one, which admits a request once its adapter has a slot."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.v1.engine.llm_engine import LLMEngine

from engine.activated_lora.marks import activate_request, is_activated
from engine.cache.controller import CacheController
from engine.offline.private_loop import PrivateLoop
from engine.types import AdapterVersion


def activate_requests(core: Any) -> None:
    """Every request is sent here: those for activated adapters say where their effect begins."""
    send = core.add_request

    def send_activated(request: Any) -> None:
        if is_activated(request.lora_request):
            activate_request(request)
        send(request)

    core.add_request = send_activated


class SteppedClient:
    """What `VllmBackend` needs of an engine. A call is executed immediately, between two steps."""

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self.vllm_config = engine.vllm_config

    async def call_workers(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        replies: list[Any] = self._engine.collective_rpc(method, args=args)
        return replies


class AdmittingEngine:
    """Replaces `LLM.llm_engine`. Everything but requests for adapters is vLLM's.

    The controller's event loop runs while requests are stepped, and at no other time.
    """

    def __init__(
        self,
        engine: LLMEngine,
        loop: PrivateLoop,
        controller: CacheController,
        versions: Mapping[int, AdapterVersion],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._controller = controller
        self._versions = versions
        self._requests: dict[str, asyncio.Task[None]] = {}  # that wait for a lease, or have one
        self._ends: dict[str, asyncio.Event] = {}  # of those that the engine is processing
        self._changed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def add_request(
        self,
        request_id: str,
        *inputs: Any,
        lora_request: LoRARequest | None = None,
        **options: Any,
    ) -> str:
        """As `LLMEngine.add_request`, but vLLM's errors are raised by `step`."""
        add = partial(
            self._engine.add_request, request_id, *inputs, lora_request=lora_request, **options
        )
        if lora_request is None:
            return str(add())
        version = self._versions[lora_request.lora_int_id]
        task = self._loop.create_task(self._lease_and_add(request_id, version, add))
        self._requests[request_id] = task
        task.add_done_callback(lambda _: self._changed.set())
        return request_id

    async def _lease_and_add(
        self, request_id: str, version: AdapterVersion, add: Callable[[], object]
    ) -> None:
        async with self._controller.lease(version, partial(self.abort_request, [request_id])):
            self._ends[request_id] = asyncio.Event()
            try:
                add()
                self._changed.set()
                await self._ends[request_id].wait()
            finally:
                del self._ends[request_id]

    def step(self) -> list[Any]:
        """One step of the engine, if it has any work.

        Raises the error of a request that was not admitted; then all others are aborted too.
        """
        self._loop.run_between(self._admit())
        self._raise_failure()
        outputs: Sequence[Any] = ()
        if self._engine.has_unfinished_requests():
            outputs = self._engine.step()
        for output in outputs:
            if output.finished and output.request_id in self._ends:
                self._ends[output.request_id].set()
        return list(outputs)

    async def _admit(self) -> None:
        """Let loads and leases proceed; wait for one of them if the engine has no work."""
        self._changed.clear()
        await asyncio.sleep(0)
        while self._requests and not self._engine.has_unfinished_requests():
            self._forget_completed()
            if any(task.done() for task in self._requests.values()) or not self._requests:
                return
            await self._changed.wait()
            self._changed.clear()

    def _forget_completed(self) -> None:
        tasks = self._requests.items()
        completed = [id_ for id_, task in tasks if task.done() and not _error_of(task)]
        for request_id in completed:
            del self._requests[request_id]

    def _raise_failure(self) -> None:
        self._forget_completed()
        failures = [error for task in self._requests.values() if (error := _error_of(task))]
        if failures:
            self.abort_request(list(self._requests))
            self._requests.clear()
            # the base model's: the next call would get their answers among its own
            others = list(self._engine.output_processor.request_states)
            self._engine.abort_request(others, internal=True)
            raise failures[0]

    def has_unfinished_requests(self) -> bool:
        return bool(self._requests) or bool(self._engine.has_unfinished_requests())

    def get_num_unfinished_requests(self) -> int:
        waiting = self._requests.keys() - self._ends.keys()
        return len(waiting) + int(self._engine.get_num_unfinished_requests())

    def abort_request(self, request_ids: Iterable[str], internal: bool = False) -> None:
        """Whether the engine is processing them yet or not."""
        ids = list(request_ids)
        self._engine.abort_request([id_ for id_ in ids if id_ not in self._requests], internal)
        self._engine.abort_request([id_ for id_ in ids if id_ in self._ends])
        aborted = [self._requests.pop(id_) for id_ in ids if id_ in self._requests]
        for task in aborted:
            task.cancel()
        if aborted and not self._loop.is_running:
            self.run(_wait_for_all(aborted))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work of the controller to its end, between two steps."""
        return self._loop.run_between(work)


def _error_of(task: "asyncio.Task[None]") -> BaseException | None:
    return None if not task.done() or task.cancelled() else task.exception()


async def _wait_for_all(tasks: Sequence["asyncio.Task[None]"]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
