"""Implements vLLM's `LoRAResolver` over a registry, with names that follow their alias.

vLLM (0.26 to 0.33) calls a resolver once for each name and serves the result forever. It also keys
its prefix cache by `lora_name`, so that another version under the same name would be answered from
the old one's blocks: here each version has its own name, `support:3`, under whatever name it was
requested.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver

from adaptry.client.models import VersionRead
from guest.failures import CantServe, Cause, Failure, cant_serve, failure_of, one_line
from guest.first_requests import NotingEngine, note_found, resolve_with_reason
from guest.http_errors import GracefulHTTPError
from guest.metrics import GuestMetrics
from guest.registry_client import BelongsElsewhere, RegistryClient
from guest.served_base import served_base
from guest.setbacks import Setbacks
from registry.inspection.base_identity import BaseIdentity

logger = logging.getLogger(__name__)

_MOST_FETCHES = 16  # at a time: their threads are not those that answer everything else
_MOST_LOOKUPS = 4  # of names that are followed


class RegistryResolver(LoRAResolver):  # type: ignore[misc]  # vLLM's
    """`models`: vLLM's `OpenAIServingModels`; its `lora_requests` are the adapters by name."""

    def __init__(
        self,
        registry: RegistryClient,
        follow_seconds: float,
        base_id: str | None = None,
        metrics: GuestMetrics | None = None,
    ) -> None:
        """`metrics`: by default in vLLM's own."""
        self._registry = registry
        self._setbacks = Setbacks(metrics or GuestMetrics(), follow_seconds)
        self._base_id = base_id
        self._base: BaseIdentity | None = None
        self._follow_seconds = follow_seconds
        self._names: dict[str, str] = {}  # the version's reference, by requested name
        self._following: asyncio.Task[None] | None = None
        self._updating: dict[str, asyncio.Task[None]] = {}  # names that are followed just now
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lookups = asyncio.Semaphore(_MOST_LOOKUPS)
        self._fetchers = ThreadPoolExecutor(_MOST_FETCHES, "adaptry-fetch")
        self.models: Any = None
        registry.files.in_use = self._in_use

    def take_over(self, models: Any) -> None:
        """vLLM's table: its engine's refusal of a name's first request is one of this guest's."""
        self.models = models
        resolve = models.resolve_lora
        models.engine_client = NotingEngine(models.engine_client)

        async def resolve_here(name: str) -> Any:
            found, attempt = await resolve_with_reason(resolve, name)
            reference, error = attempt.reference, attempt.error
            is_served = isinstance(found, LoRARequest)
            if reference is not None and error is None and is_served:
                self._setbacks.accept(reference)
                self._setbacks.settle(name)
            elif reference is not None and error is not None and not is_served:
                failure = _refused_by_vllm(reference, error).failure
                self._setbacks.refuse(reference, failure)
                raise self._refuse(name, failure) from error
            return found

        models.resolve_lora = resolve_here

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """None if the registry does not serve it.

        Raises GracefulHTTPError: 409 for a version of another base model; 503 if the registry or
        the disk fails, or this engine can't serve it. Nothing of that is reported to the registry.
        """
        try:
            version = await asyncio.to_thread(self._find, lora_name)
            if version is None:
                return None
            self._setbacks.check(version.reference)
            request = await self._request(version)
        except Exception as error:
            raise self._refuse(lora_name, failure_of(error)) from error
        note_found(version.reference)
        self._names[lora_name] = version.reference
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        return request

    def _refuse(self, name: str, failure: Failure) -> GracefulHTTPError:
        self._setbacks.refuse_request(name, failure)
        return GracefulHTTPError(f"{name} can't be served here: {failure.said}", failure.status)

    def _find(self, name: str) -> VersionRead | None:
        """Raises BelongsElsewhere, AdaptryError, CantServe."""
        if self._base is None:
            try:
                self._base = served_base(self.models, self._base_id)
            except OSError as error:
                said = f"this server can't read its base model: {error.strerror or error}"
                raise CantServe(Failure(Cause.DISK, said, f"{said} ({error})")) from error
            logger.info("the base model is %s", self._base)
        return self._registry.find(name, self._base)

    async def _request(self, version: VersionRead) -> LoRARequest:
        """Raises CantServe, AdaptryError, OSError."""
        try:
            self._check_fit(version)
            loop = asyncio.get_running_loop()
            folder = await loop.run_in_executor(self._fetchers, self._registry.fetch, version)
        except Exception as error:
            self._setbacks.refuse(version.reference, failure_of(error))
            raise
        # vLLM gives it its number
        return LoRARequest(version.reference, 1, str(folder))

    def _check_fit(self, version: VersionRead) -> None:
        """Raises CantServe if this engine can't serve it."""
        if (most := self._max_rank()) is not None and version.rank > most:
            detail = f"{version.reference} has rank {version.rank}, over --max-lora-rank {most}"
            raise cant_serve(Cause.RANK, detail)
        if version.kind != "lora":  # 0.26 would apply it from the prompt's start on
            detail = f"{version.reference} is an activated adapter: vLLM alone can't serve it"
            raise cant_serve(Cause.ACTIVATED, detail)

    async def _follow(self) -> None:
        """Each name by itself: one whose files come slowly holds up no other."""
        while True:
            await asyncio.sleep(self._follow_seconds)
            for name in self._names:
                if self._is_served(name) and name not in self._updating:
                    self._updating[name] = asyncio.create_task(self._follow_name(name))
            self._registry.files.let_go()

    async def _follow_name(self, name: str) -> None:
        try:
            async with self._lock_of(name):
                await self._update(name, self._lookups, is_patient=True)
        except Exception as error:  # also vLLM's, for an adapter that it does not accept
            self._setbacks.fall_behind(name, failure_of(error))  # the current version stays
            logger.debug("%s", name, exc_info=True)
        else:
            self._setbacks.settle(name)
        finally:
            del self._updating[name]

    async def update(self, name: str) -> None:
        """Resolve a name again, if it is served here. Raises what `failure_of` knows."""
        async with self._lock_of(name):
            await self._update(name, nullcontext())

    def _lock_of(self, name: str) -> asyncio.Lock:
        """Exists while an update of the name holds it or waits for it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _update(
        self, name: str, turn: AbstractAsyncContextManager[None], *, is_patient: bool = False
    ) -> None:
        """`turn`: is held while the registry is asked, and no longer. `is_patient`: a version that
        was refused is not tried again before its pause is over."""
        if not self._is_served(name) or name not in self._names:
            return
        try:
            async with turn:
                version = await asyncio.to_thread(self._find, name)
        except BelongsElsewhere as error:
            logger.warning("%s", error)
            version = None
        if version is None:
            logger.info("%s is no longer served", name)
            self.models.lora_requests.pop(name, None)
            del self._names[name]
        elif version.reference != self._names[name]:
            if is_patient:
                self._setbacks.check(version.reference)
            await self._switch(name, version)

    async def _switch(self, name: str, version: VersionRead) -> None:
        """Raises also what vLLM raises for an adapter that it does not accept."""
        request = await self._request(version)
        request.lora_int_id = self.models.lora_id_counter.inc(1)
        try:
            await self.models.engine_client.add_lora(request)
        except Exception as error:
            refused = _refused_by_vllm(version.reference, error)
            self._setbacks.refuse(version.reference, refused.failure)
            raise refused from error
        self._setbacks.accept(version.reference)
        self.models.lora_requests[name] = request  # requests in progress have their own
        self._names[name] = version.reference
        logger.info("%s means %s now", name, version.reference)

    def _is_served(self, name: str) -> bool:
        return self.models is not None and name in self.models.lora_requests

    def _max_rank(self) -> int | None:
        config = getattr(getattr(self.models, "engine_client", None), "vllm_config", None)
        lora_config = getattr(config, "lora_config", None)
        return None if lora_config is None else int(lora_config.max_lora_rank)

    def _in_use(self) -> frozenset[str]:
        """The digests that vLLM may read again."""
        # a copy: threads call this while the event loop changes the table
        served = () if self.models is None else tuple(self.models.lora_requests.values())
        return frozenset(Path(request.lora_path).name for request in served)


def _refused_by_vllm(reference: str, error: Exception) -> CantServe:
    return cant_serve(Cause.ENGINE, f"vLLM refuses {reference}: {one_line(error)}")
