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
from http import HTTPStatus
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver

from adaptry.client import AdaptryError
from adaptry.client.models import VersionRead
from guest.http_errors import GracefulHTTPError
from guest.registry_client import BelongsElsewhere, RegistryClient
from guest.served_base import served_base
from registry.inspection.base_identity import BaseIdentity

logger = logging.getLogger(__name__)

_MOST_FETCHES = 16  # at a time: their threads are not those that answer everything else
_MOST_LOOKUPS = 4  # of names that are followed


class RegistryResolver(LoRAResolver):  # type: ignore[misc]  # vLLM's
    """`models`: vLLM's `OpenAIServingModels`; its `lora_requests` are the adapters by name."""

    def __init__(
        self, registry: RegistryClient, follow_seconds: float, base_id: str | None = None
    ) -> None:
        self._registry = registry
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

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """None if the registry does not serve it.

        Raises GracefulHTTPError: 409 for a version of another base model; 503 if the registry or
        the disk fails, or this engine can't serve it. Nothing of that is reported to the registry.
        """
        try:
            version = await asyncio.to_thread(self._find, lora_name)
            if version is None:
                return None
            request = await self._request(version)
        except BelongsElsewhere as error:
            raise GracefulHTTPError(str(error), HTTPStatus.CONFLICT) from error
        except (AdaptryError, OSError) as error:
            logger.warning("%s can't be resolved: %s", lora_name, error)
            raise GracefulHTTPError(
                f"the registry of {lora_name} does not answer", HTTPStatus.SERVICE_UNAVAILABLE
            ) from error
        self._names[lora_name] = version.reference
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        return request

    def _find(self, name: str) -> VersionRead | None:
        """Raises BelongsElsewhere, AdaptryError, OSError."""
        if self._base is None:
            self._base = served_base(self.models, self._base_id)
            logger.info("the base model is %s", self._base)
        return self._registry.find(name, self._base)

    async def _request(self, version: VersionRead) -> LoRARequest:
        """Raises GracefulHTTPError (503) if this engine can't serve it."""
        if (most := self._max_rank()) is not None and version.rank > most:
            detail = f"{version.reference} has rank {version.rank}, over --max-lora-rank {most}"
            raise GracefulHTTPError(detail, HTTPStatus.SERVICE_UNAVAILABLE)
        if version.kind != "lora":  # 0.26 would apply it from the prompt's start on
            detail = f"{version.reference} is an activated adapter: vLLM alone can't serve it"
            raise GracefulHTTPError(detail, HTTPStatus.SERVICE_UNAVAILABLE)
        loop = asyncio.get_running_loop()
        folder = await loop.run_in_executor(self._fetchers, self._registry.fetch, version)
        # vLLM gives it its number
        return LoRARequest(version.reference, 1, str(folder))

    async def _follow(self) -> None:
        """Each name by itself: one whose files come slowly holds up no other."""
        while True:
            await asyncio.sleep(self._follow_seconds)
            for name in self._names:
                if self._is_served(name) and name not in self._updating:
                    self._updating[name] = asyncio.create_task(self._follow_name(name))

    async def _follow_name(self, name: str) -> None:
        try:
            async with self._lock_of(name):
                await self._update(name, self._lookups)
        except (AdaptryError, OSError, GracefulHTTPError) as error:  # the current version stays
            logger.warning("%s can't be brought up to date: %s", name, error)
        except Exception:  # vLLM's, for an adapter that it does not accept
            logger.exception("%s can't be brought up to date", name)
        finally:
            del self._updating[name]

    async def update(self, name: str) -> None:
        """Resolve a name again, if it is served here. Raises AdaptryError, OSError."""
        async with self._lock_of(name):
            await self._update(name, nullcontext())

    def _lock_of(self, name: str) -> asyncio.Lock:
        """Exists while an update of the name holds it or waits for it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _update(self, name: str, turn: AbstractAsyncContextManager[None]) -> None:
        """`turn`: is held while the registry is asked, and no longer."""
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
            request = await self._request(version)
            request.lora_int_id = self.models.lora_id_counter.inc(1)
            await self.models.engine_client.add_lora(request)
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
