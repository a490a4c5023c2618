"""Applications to compare: stock vLLM's and ours in one process, each over its own echo engine.

Both are complete: ours has its registry on SQLite, keys, limits, metrics and background work.
"""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastapi import FastAPI
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.openai.models.protocol import LoRAModulePath
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import EngineCoreClient

import engine.app
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model
from benchmarks.overhead.echo_engine import EchoCore
from engine.app import run_server
from engine.bootstrap.registry import open_database
from engine.fake_backend import FakeBackend
from engine.settings import EngineSettings
from engine.vllm import compat as vllm_compat
from engine.vllm.arguments import parse_engine_arguments
from engine.vllm.engine_client import LeasedAsyncLLM
from registry.auth.client_address import LOCAL, from_address
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.inspection.supported_modules import SupportedModules
from registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Application:
    """`http`: what uvicorn is given as its protocol. `headers`: of each request to it."""

    name: str
    app: FastAPI
    http: Any
    headers: dict[str, str]


class _Backend(FakeBackend):
    """No engine holds the adapters: the echo answers for all of them."""

    lost = None

    async def served_modules(self, *naming: object) -> SupportedModules | None:
        return None


class _EchoProcess:
    """Implements the supervisor's `EngineProcess`."""

    is_dead = False
    suspended = None

    def __init__(self, engine: LeasedAsyncLLM, backend: FakeBackend) -> None:
        self.engine = engine
        self.backend = backend

    async def wait_for_death(self) -> str:
        await asyncio.Event().wait()
        return ""

    def shut_down(self, timeout_seconds: float | None) -> None:
        return

    def kill(self) -> None:
        return

    async def stop(self) -> None:
        self.engine.shutdown()


class _EchoStarter:
    """Takes the place of `VllmStarter`."""

    def __init__(self, arguments: Namespace, host_bytes: int | None) -> None:
        self._arguments = arguments

    async def start(self) -> _EchoProcess:
        slots, places = self._arguments.max_loras, self._arguments.max_cpu_loras
        backend = _Backend(slots=slots, host_capacity=places)
        return _EchoProcess(_echo_engine(LeasedAsyncLLM, self._arguments), backend)


def _echo_engine(client: type[Any], arguments: Namespace) -> Any:
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(
        usage_context=UsageContext.OPENAI_API_SERVER
    )
    with patch.object(EngineCoreClient, "make_async_mp_client", lambda **_: EchoCore()):
        return client.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER)


def prepare(folder: Path, adapters: int) -> Namespace:
    """The arguments of both sides. Writes a model, its `adapters` a0, a1, …, a folder `state`."""
    for number in range(adapters):
        write_adapter(folder / "adapters", f"a{number}", SHAPES["tiny"], rank=8, seed=number)
    (folder / "state").mkdir()
    base = write_base_model(folder, SHAPES["tiny"])
    return parse_engine_arguments(
        str(base),
        [
            f"--max-loras={adapters}",
            f"--max-cpu-loras={2 * adapters}",
            "--max-lora-rank=8",
            "--max-model-len=1024",
            "--kv-cache-memory-bytes=67108864",
            "--enforce-eager",
            "--load-format=dummy",
            f"--served-model-name={base.name}",
        ],
    )


@asynccontextmanager
async def stock(arguments: Namespace, adapters: Path, *, keys: bool) -> AsyncIterator[Application]:
    """vLLM's application with every folder in `adapters` as a static adapter."""
    arguments = Namespace(**vars(arguments))
    arguments.api_key = ["secret"] if keys else None
    arguments.worker_extension_cls = ""
    arguments.lora_modules = [
        LoRAModulePath(folder.name, str(folder)) for folder in sorted(adapters.iterdir())
    ]
    client: Any = _echo_engine(AsyncLLM, arguments)
    tasks = await client.get_supported_tasks()
    app: FastAPI = vllm_compat.build_app()(arguments, tasks, client.model_config)
    await vllm_compat.init_app_state()(client, app.state, arguments, tasks)
    try:
        headers = {"authorization": "Bearer secret"} if keys else {}
        yield Application("stock", app, "httptools", headers)
    finally:
        client.shutdown()


@asynccontextmanager
async def ours(
    arguments: Namespace, adapters: Path, state: Path, *, keys: bool
) -> AsyncIterator[Application]:
    """Our application with every folder registered and in a slot; requests have a key."""
    settings = RegistrySettings(
        database_url=f"sqlite+aiosqlite:///{state}/registry.db",
        store=state / "store",
        source_roots=(adapters,),
        require_keys=keys,
    )
    with patch.object(engine.app, "VllmStarter", _EchoStarter):
        async with run_server(arguments, EngineSettings(), settings) as server:
            for folder in sorted(adapters.iterdir()):
                with from_address(LOCAL):
                    await server.service.registrar.register(
                        folder.name, str(folder), actor="benchmark"
                    )
                version = await server.cache.resolver.resolve(folder.name)
                async with server.controller.lease(version):
                    pass
            headers = {"authorization": f"Bearer {await _create_key(settings)}"} if keys else {}
            yield Application("ours", server.app, server.http, headers)


async def _create_key(settings: RegistrySettings) -> str:
    async with open_database(settings) as database:
        text, _ = await KeyService(database).create("app", [Scope.INFER], actor="benchmark")
        return text
