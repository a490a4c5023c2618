"""Engine client: vLLM's, with a lease of the cache controller around every generation."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import Any, Protocol

from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from engine.errors import EngineUnavailable
from engine.gateway.generation import Generation
from engine.types import Lease
from engine.vllm.tenant_isolation import tenant_cache_salt, tenant_request_id


class Guard(Protocol):
    """Wraps every generation. `Leasing` implements it for requests over HTTP."""

    def lease_for(
        self, request: LoRARequest, revoke: Callable[[], None]
    ) -> AbstractAsyncContextManager[Lease]:
        """Hold the adapter while the block runs."""

    def generating(
        self, lease: Lease | None, *, deltas: bool
    ) -> AbstractContextManager[Generation]:
        """Receives each output, and has further options for vLLM. See CountedGeneration."""

    def engine_died(self, error: EngineUnavailable) -> None:
        """The engine ended under the running request."""


class LeasedAsyncLLM(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's engine client; a generation with an adapter holds a lease on it.

    Every route of vLLM's OpenAI application ends in `generate` or `encode`. The inner generator
    is closed before the lease is released, so that an abort reaches the engine before anything
    that reuses the freed slot.
    """

    guard: Guard

    def __init__(self, *inputs: Any, **options: Any) -> None:
        super().__init__(*inputs, **options)
        _salt_requests(self.engine_core)

    def generate(
        self,
        prompt: Any,
        sampling_params: Any,
        request_id: str,
        *,
        lora_request: LoRARequest | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        request_id = tenant_request_id(request_id)
        inputs = (prompt, sampling_params, request_id)
        stream = partial(super().generate, *inputs, lora_request=lora_request, **options)
        kind = getattr(sampling_params, "output_kind", None)
        deltas = kind is RequestOutputKind.DELTA
        return self._stream(stream, request_id, lora_request, deltas=deltas)

    def generate_leased(
        self,
        prompt: Any,
        sampling_params: Any,
        request_id: str,
        *,
        lora_request: LoRARequest | None = None,
    ) -> AsyncGenerator[Any, None]:
        """For callers that hold the lease already."""
        inputs = (prompt, sampling_params, request_id)
        stream = partial(super().generate, *inputs, lora_request=lora_request)
        return self._stream(stream, request_id, None)

    def encode(
        self,
        prompt: Any,
        pooling_params: Any,
        request_id: str,
        lora_request: LoRARequest | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        request_id = tenant_request_id(request_id)
        stream = partial(
            super().encode, prompt, pooling_params, request_id, lora_request, **options
        )
        return self._stream(stream, request_id, lora_request)

    async def abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """For vLLM's routes, which use the id that they gave the request."""
        if internal:
            await super().abort(request_id, internal)
            return
        ids = [request_id] if isinstance(request_id, str) else request_id
        await super().abort(list(map(tenant_request_id, ids)))

    async def _stream(
        self,
        open_stream: Callable[..., AsyncGenerator[Any, None]],
        request_id: str,
        lora_request: LoRARequest | None,
        *,
        deltas: bool = False,
    ) -> AsyncGenerator[Any, None]:
        revoked = asyncio.Event()
        began = finished = False
        async with self._lease(lora_request, partial(self._revoke, request_id, revoked)) as lease:
            with self.guard.generating(lease, deltas=deltas) as generation:
                try:
                    async with aclosing(open_stream(**generation.options)) as stream:
                        async for output in stream:
                            finished = output.finished
                            if not began and not revoked.is_set() and _was_rejected(output):
                                raise EngineDeadError
                            began = True
                            generation.on_output(output)
                            yield output
                            if revoked.is_set():  # perhaps before the request reached vLLM
                                await super().abort(request_id)
                except EngineDeadError as error:
                    ended = EngineUnavailable("it ended")
                    self.guard.engine_died(ended)
                    raise ended from error
                finally:
                    if not finished:
                        # vLLM doesn't if it is cancelled while it sends the request
                        await super().abort(request_id)

    def _lease(
        self, lora_request: LoRARequest | None, revoke: Callable[[], None]
    ) -> AbstractAsyncContextManager[Lease | None]:
        return nullcontext() if lora_request is None else self.guard.lease_for(lora_request, revoke)

    def _revoke(self, request_id: str, revoked: asyncio.Event) -> None:
        revoked.set()
        task = asyncio.create_task(super().abort(request_id))
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    @functools.cached_property
    def _aborts(self) -> set[asyncio.Task[None]]:
        return set()


def _was_rejected(output: Any) -> bool:
    """By an engine that is being stopped: vLLM reports a request that finished, but is empty."""
    completions = getattr(output, "outputs", None)
    return (
        output.finished
        and isinstance(completions, list)
        and all(each.finish_reason == "abort" and not each.token_ids for each in completions)
    )


def _salt_requests(core: Any) -> None:
    """Every request is sent here: each of `n` completions, each part of an input stream."""
    send = core.add_request_async

    async def send_salted(request: Any) -> None:
        request.cache_salt = tenant_cache_salt(request.cache_salt)
        await send(request)

    core.add_request_async = send_salted
