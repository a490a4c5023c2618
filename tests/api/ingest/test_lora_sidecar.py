"""gateway-api's LoRA sidecar over HTTP: rounds of health, list, load and unload, with Hub ids."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from engine.api.lora import create_lora_router
from engine.gateway.model_list import MODELS, ModelList
from engine.operations.named_adapters import NamedAdapters
from engine.resolver import RegistryResolver
from tests.support.lora_sidecar import LoraSidecar
from tests.support.servers.asgi_server import serving
from tests.support.servers.huggingface_hub import COMMIT_1, HubServer, Repository, hub_server
from tests.support.servers.registry_in_loop import running_registry

AdapterMaker = Callable[..., Path]
IDS = ("Org/Adapter-7B_v2", "org/adapter-7b_v2", "sql-lora-v1", "Tweet_Summary")
BASE = "meta-llama/Llama-3.1-8B"
LOAD, UNLOAD = "POST /v1/load_lora_adapter", "POST /v1/unload_lora_adapter"


class Engine:
    """Its host tier, as references; `health` is what its route answers next."""

    def __init__(self) -> None:
        self.host: list[str] = []
        self.health: list[int] = []

    async def load_into_host(self, version: Any) -> None:
        self.host.append(version.reference)

    async def warm(self, *_: Any) -> None: ...
    async def probe(self, *_: Any) -> None: ...

    def evict_when_idle(self, version: Any) -> None:
        self.host.remove(version.reference)


class Served:
    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine

    async def reconcile(self, sidecar: LoraSidecar) -> dict[str, int]:
        return await asyncio.to_thread(sidecar.reconcile)


@pytest.fixture
def hub(make_adapter: AdapterMaker) -> Iterator[HubServer]:
    with hub_server() as server:
        for seed, name in enumerate(("Org/Adapter-7B_v2", "org/one", "org/two")):
            folder = make_adapter(f"files-{seed}", seed=seed)
            files = {file.name: file.read_bytes() for file in folder.iterdir()}
            server.repositories[name] = Repository({"main": COMMIT_1}, {COMMIT_1: files})
        yield server


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any, hub: HubServer) -> Callable[[], Any]:
    @asynccontextmanager
    async def begin() -> AsyncIterator[Served]:
        running = running_registry(database_url, tmp_path, base_model, hub_endpoint=hub.url)
        async with running as registry:
            engine, app, service = Engine(), FastAPI(), registry.service
            adapters = NamedAdapters(service, registry.ingest, engine.load_into_host, engine)
            app.include_router(create_lora_router(adapters))
            catalog = service.catalog
            models = ModelList(
                catalog.served_references,
                service.names,
                RegistryResolver(catalog),
                catalog.version,
            )

            @app.get(MODELS)
            async def show_models(request: Request) -> Response:
                return await models.show([{"id": BASE, "root": BASE}], request)

            @app.get("/health")
            async def health() -> Response:  # vLLM's: an empty body
                return Response(status_code=engine.health.pop(0) if engine.health else 200)

            async with serving(app) as url:
                yield Served(url, engine)

    return begin


async def test_rounds_load_once_and_unload_once(start: Any) -> None:
    sources = dict(zip(IDS, ("Org/Adapter-7B_v2", "org/one", "hf://org/two@main"), strict=False))
    async with start() as served:
        sidecar = LoraSidecar(served.url, sources, ["Not/There"], base_model=BASE)
        assert await served.reconcile(sidecar) == dict.fromkeys(sources, 200)
        assert len(set(served.engine.host)) == 3, "ids that differ in a capital are two"
        assert await served.reconcile(sidecar) == {}, "it finds them in the list"
        assert {call for call, _ in sidecar.calls} == {"GET /health", f"GET {MODELS}"}
        assert {status for _, status in sidecar.calls} == {200}

        sidecar.wanted = {IDS[2]: sources[IDS[2]]}
        sidecar.unwanted = IDS[:2]
        assert await served.reconcile(sidecar) == dict.fromkeys(IDS[:2], 200)
        assert served.engine.host == ["sql-lora-v1:1"]
        assert await served.reconcile(sidecar) == {}
        sidecar.wanted, sidecar.unwanted = sources, ()
        assert await served.reconcile(sidecar) == dict.fromkeys(IDS[:2], 200), "wanted back"


async def test_a_load_that_fails_is_tried_again_the_next_round(start: Any, hub: HubServer) -> None:
    later = hub.repositories.pop("org/one")
    async with start() as served:
        sidecar = LoraSidecar(served.url, {"Tweet_Summary": "org/one", IDS[2]: "org/two"})
        assert await served.reconcile(sidecar) == {"Tweet_Summary": 404, IDS[2]: 200}
        assert await served.reconcile(sidecar) == {"Tweet_Summary": 404}
        hub.repositories["org/one"] = later
        assert await served.reconcile(sidecar) == {"Tweet_Summary": 200}
        assert await served.reconcile(sidecar) == {}


async def test_it_waits_for_the_health_of_the_server(start: Any) -> None:
    async with start() as served:
        served.engine.health = [503, 503]
        sidecar = LoraSidecar(served.url, {IDS[0]: IDS[0]})
        assert await served.reconcile(sidecar) == {IDS[0]: 200}
        assert [status for _, status in sidecar.calls[:3]] == [503, 503, 200]
    waiting = asyncio.create_task(asyncio.to_thread(sidecar._health))
    assert await waiting == 0, "a server that is away is no error"


async def test_what_is_in_both_lists_is_left_alone(start: Any) -> None:
    async with start() as served:
        sidecar = LoraSidecar(served.url, {IDS[0]: IDS[0]}, [IDS[0]])
        assert await served.reconcile(sidecar) == {}
        assert served.engine.host == []
