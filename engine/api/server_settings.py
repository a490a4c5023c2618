"""Settings route: what this server runs with, and the state of its database and store.

For the platform's administrators: no secret is in it, but names of hosts and folders are.
"""

import asyncio
import re
import shutil
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, JsonValue, TypeAdapter
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from engine.api.cache import ERRORS, EngineProblemRoute
from registry.auth.caller import current_caller
from registry.database.schema_revision import schema_state
from registry.database.schema_state import SchemaState
from registry.errors import RegistryError
from registry.redaction import HIDDEN, hide_credentials, redact
from registry.settings import RegistrySettings
from registry.sources.disks.store_threads import STEPS

Part = Literal["registry", "cache", "engine"]

_STORE_SECONDS = 2.0
_QUERY = re.compile(r"(?<=[?&])([^=&\s]+)=[^&\s]*")
_ENGINE_OPTIONS = (
    "model",
    "revision",
    "served_model_name",
    "host",
    "port",
    "dtype",
    "quantization",
    "max_model_len",
    "max_num_seqs",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "kv_cache_memory_bytes",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "max_loras",
    "max_cpu_loras",
    "max_lora_rank",
    "fully_sharded_loras",
    "enforce_eager",
    "enable_prefix_caching",
    "enable_sleep_mode",
)
"""Of vLLM's arguments: its keys and what may have one in it are left out."""


class SettingRead(BaseModel):
    """`name`: its variable, or vLLM's option. `value`: in effect, passwords as `[hidden]`.

    `is_default`: null if the default isn't known here.
    """

    part: Part
    name: str
    value: JsonValue
    is_default: bool | None
    description: str | None


class DatabaseRead(BaseModel):
    """`problem`: why it does not answer; null if it does. `missing`: migrations."""

    kind: str
    problem: str | None
    schema_revision: str | None
    missing: int | None


class StoreRead(BaseModel):
    """`problem`: why it does not answer. Bytes are null where that can't be told."""

    folder: str
    problem: str | None
    free_bytes: int | None
    total_bytes: int | None


class ServerSettingsRead(BaseModel):
    items: list[SettingRead]
    database: DatabaseRead
    store: StoreRead


Check = Callable[[], Awaitable[None]]


class Parts(Protocol):
    """The registry's database and store. Both methods raise RegistryError."""

    async def ping(self) -> None: ...

    async def check_store(self) -> None: ...


def create_settings_router(
    registry: RegistrySettings,
    cache: BaseSettings,
    engine: Namespace | Mapping[str, Any],
    parts: Parts,
) -> APIRouter:
    """`engine`: vLLM's arguments."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["health"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )
    given = vars(engine) if isinstance(engine, Namespace) else engine
    items = [
        *_fields("registry", registry),
        *_fields("cache", cache),
        *_options(given),
    ]

    @router.get("/settings")
    async def settings() -> ServerSettingsRead:
        """Settings in effect without their secrets, and the state of database and store."""
        current_caller().check_platform()
        database, store = await asyncio.gather(
            _database(registry.database_url, parts.ping), _store(registry.store, parts.check_store)
        )
        return ServerSettingsRead(items=items, database=database, store=store)

    return router


def _fields(part: Part, settings: BaseSettings) -> Iterator[SettingRead]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=False)
        shown = hide_credentials(value) if name == "database_url" else value
        yield SettingRead(
            part=part,
            name=f"ADAPTRY_{name.upper()}",
            value=_format(shown),
            is_default=None if default is PydanticUndefined else value == default,
            description=field.description,
        )


def _options(given: Mapping[str, Any]) -> Iterable[SettingRead]:
    for name in _ENGINE_OPTIONS:
        if name in given:
            yield SettingRead(
                part="engine",
                name=f"--{name.replace('_', '-')}",
                value=_format(given[name]),
                is_default=None,
                description=None,
            )


def _format(value: Any) -> JsonValue:
    """As JSON; a SecretStr becomes asterisks by itself."""
    return _without_secrets(TypeAdapter(Any).dump_python(value, mode="json", fallback=str))


def _without_secrets(value: Any) -> JsonValue:
    if isinstance(value, str):
        clean = redact(value)
        return _QUERY.sub(rf"\1={HIDDEN}", clean) if "://" in clean else clean
    if isinstance(value, list):
        return [_without_secrets(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _without_secrets(each) for name, each in value.items()}
    found: JsonValue = value
    return found


async def _database(url: str, ping: Check) -> DatabaseRead:
    kind = "SQLite" if url.startswith("sqlite") else "PostgreSQL"
    try:
        await ping()
        state: SchemaState = await asyncio.to_thread(schema_state, url)
    except RegistryError as error:
        why = redact(error.detail)
        return DatabaseRead(kind=kind, problem=why, schema_revision=None, missing=None)
    return DatabaseRead(
        kind=kind, problem=None, schema_revision=state.current, missing=state.missing
    )


async def _store(folder: Path, check: Check) -> StoreRead:
    try:
        await check()
        looking = STEPS.run(partial(shutil.disk_usage, folder))
        usage = await asyncio.wait_for(looking, _STORE_SECONDS)
    except (RegistryError, OSError, TimeoutError) as error:
        why = str(error) or f"it does not answer within {_STORE_SECONDS:g} s"
        return StoreRead(folder=str(folder), problem=why, free_bytes=None, total_bytes=None)
    return StoreRead(
        folder=str(folder), problem=None, free_bytes=usage.free, total_bytes=usage.total
    )
