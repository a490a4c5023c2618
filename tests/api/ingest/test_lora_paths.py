"""`lora_path`: what vLLM's routes load from, how they wait for it, and how they refuse it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.api.lora import create_lora_router
from engine.operations.named_adapters import NamedAdapters
from registry.catalog.types import ResolvedVersion
from registry.names.registry_name import registry_name_of
from registry.references import check_name, tenant_of
from tests.support.servers.asgi_server import take_in
from tests.support.servers.huggingface_hub import COMMIT_1, Repository, hub_server
from tests.support.servers.registry_in_loop import Registry, running_registry
from tests.support.servers.web import Handler, web_server

AdapterMaker = Callable[..., Path]
Json = dict[str, Any]


class Engine:
    """What the routes do to an engine: its host tier, as references."""

    def __init__(self) -> None:
        self.host: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def load_into_host(self, version: Any) -> None:
        await self.answers.wait()
        self.host.append(version.reference)

    async def warm(self, *_: Any) -> None: ...
    async def probe(self, *_: Any) -> None: ...

    def evict_when_idle(self, version: ResolvedVersion) -> None:
        self.host.remove(version.reference)


class Routes:
    """The routes over a registry."""

    def __init__(self, registry: Registry, client: httpx.AsyncClient, engine: Engine) -> None:
        self.registry = registry
        self.engine = engine
        self.client = client

    async def load(self, name: str, path: str | Path, **more: Any) -> httpx.Response:
        body = {"lora_name": name, "lora_path": str(path), **more}
        return await self.client.post("/v1/load_lora_adapter", json=body)

    async def source_of(self, reference: str) -> str:
        name, _, number = reference.partition(":")
        version = (await self.registry.http.get(f"/adapters/{name}/versions/{number}")).json()
        return str(version["source"])


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Callable[..., Any]:
    @asynccontextmanager
    async def begin(*, wait_seconds: float = 20, **settings: Any) -> AsyncIterator[Routes]:
        async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
            engine, app = Engine(), FastAPI()
            adapters = NamedAdapters(
                registry.service,
                registry.ingest,
                engine.load_into_host,
                engine,
                wait_seconds=wait_seconds,
            )
            take_in(app, create_lora_router(adapters))
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield Routes(registry, client, engine)

    return begin


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return response.status_code, error["type"], error["code"]


async def test_a_repository_of_the_hub_is_loaded_by_its_id_or_url(
    start: Any, make_adapter: AdapterMaker
) -> None:
    with hub_server() as hub:
        for seed, name in enumerate(("first", "second")):
            files = {f.name: f.read_bytes() for f in make_adapter(name, seed=seed).iterdir()}
            hub.repositories[f"org/{name}"] = Repository({"main": COMMIT_1}, {COMMIT_1: files})
        async with start(hub_endpoint=hub.url) as routes:
            for name, path in (("first", "org/first"), ("second", "hf://org/second")):
                loaded = await routes.load(name, path)
                assert loaded.status_code == 200, loaded.text
                assert loaded.text == f"Success: LoRA adapter '{name}' added successfully."
                assert await routes.source_of(f"{name}:1") == f"hf://org/{name}"
            assert routes.engine.host == ["first:1", "second:1"]
            missing = await routes.load("third", "org/third")
            assert error_of(missing) == (404, "NotFoundError", "source_not_found")


async def test_a_folder_is_preferred_to_a_repository_of_the_same_name(
    start: Any, make_adapter: AdapterMaker
) -> None:
    make_adapter("org/mine")
    async with start() as routes:
        assert (await routes.load("mine", "org/mine")).status_code == 200
        assert await routes.source_of("mine:1") == "org/mine"


async def test_a_file_url_is_the_folder(start: Any, make_adapter: AdapterMaker) -> None:
    folder = make_adapter("with space")
    async with start() as routes:
        loaded = await routes.load("spaced", folder.as_uri())
        assert loaded.status_code == 200, loaded.text
        assert await routes.source_of("spaced:1") == str(folder)
        elsewhere = await routes.load("other", "file://elsewhere/srv/adapter")
        assert error_of(elsewhere) == (400, "InvalidUserInput", "invalid_source")
        outside = await routes.load("other", "file:///etc")
        assert error_of(outside) == (404, "NotFoundError", "source_not_allowed")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("s3://bucket/upper", 403, "source_not_allowed"),  # not among the allowed ones
        ("http://10.0.0.1/upper.tar", 403, "address_not_allowed"),  # a private address
        ("ftp://host/upper", 400, "invalid_source"),
        ("/etc", 404, "source_not_allowed"),  # as for one that is not there
        ("/nowhere/to/be/found", 404, "source_not_allowed"),
        ("", 400, "invalid_source"),
    ],
)
async def test_a_refused_source_is_the_client_s_error(
    start: Any, path: str, status: int, code: str
) -> None:
    async with start() as routes:
        refused = await routes.load("mine", path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert routes.engine.host == []


async def test_what_is_neither_a_folder_nor_allowed_on_the_hub_says_both(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as routes:
        monkeypatch.setattr(routes.registry.ingest._sources._rules, "_rules", [])
        refused = await routes.load("mine", "org/upper")
        assert error_of(refused) == (404, "NotFoundError", "source_not_found")
        message = refused.json()["error"]["message"]
        assert "'org/upper' is not a folder" in message
        assert "hf://org is not among the places to register from" in message


async def test_a_slow_fetch_goes_on_as_a_job_and_the_same_request_waits_for_it(
    start: Any, make_adapter: AdapterMaker
) -> None:
    asked, leave = threading.Event(), threading.Event()
    files = {file.name: file.read_bytes() for file in make_adapter("slow").iterdir()}

    def answer(handler: Handler) -> None:
        asked.set()
        leave.wait(20)
        handler.send(200, files["adapter_model.safetensors"], {})

    with web_server() as web:
        web.file("/slow/adapter_config.json", files["adapter_config.json"])
        web.answers["/slow/adapter_model.safetensors"] = answer
        async with start(wait_seconds=0.3) as routes:
            pending = await routes.load("slow", f"{web.url}/slow")
            assert error_of(pending) == (503, "ServiceUnavailableError", "registration_pending")
            (job,) = (await routes.registry.http.get("/jobs")).json()["items"]
            assert f"/api/v1/jobs/{job['id']}" in pending.json()["error"]["message"]
            assert int(pending.headers["retry-after"]) > 0
            again = asyncio.create_task(routes.load("slow", f"{web.url}/slow"))
            assert await asyncio.to_thread(asked.wait, 10)
            leave.set()
            loaded = await again
            while loaded.status_code == 503:
                loaded = await routes.load("slow", f"{web.url}/slow")
            if loaded.status_code == 400:  # it ended between two requests: it is served
                assert error_of(loaded)[2] == "already_loaded"
            else:
                assert loaded.status_code == 200, loaded.text
            jobs = (await routes.registry.http.get("/jobs")).json()["items"]
            assert [each["id"] for each in jobs] == [job["id"]], "no second fetch"


async def test_a_load_and_a_registration_wait_for_one_job(
    start: Any, make_adapter: AdapterMaker
) -> None:
    asked, leave = threading.Event(), threading.Event()
    files = {file.name: file.read_bytes() for file in make_adapter("both").iterdir()}

    def answer(handler: Handler) -> None:
        asked.set()
        leave.wait(20)
        handler.send(200, files["adapter_model.safetensors"], {})

    with web_server() as web:
        web.file("/both/adapter_config.json", files["adapter_config.json"])
        web.answers["/both/adapter_model.safetensors"] = answer
        async with start() as routes:
            http, source = routes.registry.http, f"{web.url}/both"
            body = {"source": source}
            registering = asyncio.create_task(
                http.post("/adapters/both/versions", json=body, params={"wait": 20}, timeout=30)
            )
            assert await asyncio.to_thread(asked.wait, 10)
            loading = asyncio.create_task(routes.load("both", source))
            await asyncio.sleep(0.3)  # it has found the job
            leave.set()
            registered, loaded = await asyncio.gather(registering, loading)
            assert (registered.status_code, loaded.status_code) == (201, 200), loaded.text
            assert len((await http.get("/jobs")).json()["items"]) == 1, "no second fetch"


async def test_two_loads_of_one_name_are_one_after_the_other(
    start: Any, make_adapter: AdapterMaker
) -> None:
    folders = [make_adapter(f"a{n}", seed=n) for n in range(4)]
    async with start() as routes:
        loads = await asyncio.gather(*(routes.load("bot", folder) for folder in folders))
        assert sorted(load.status_code for load in loads) == [200, 400, 400, 400]
        (refused, *_) = [load for load in loads if load.status_code == 400]
        assert error_of(refused) == (400, "InvalidUserInput", "already_loaded")
        assert "has already been loaded" in refused.json()["error"]["message"]
        assert routes.engine.host == ["bot:1"]


@pytest.mark.parametrize(
    ("changed", "code", "sentence"),
    [
        ({"r": 1024}, "rank_too_large", "is greater than max_lora_rank"),
        ({"use_dora": True}, "dora_unsupported", "does not yet support DoRA"),
        (
            {"init_lora_weights": "pissa"},
            "init_lora_weights_unsupported",
            "init_lora_weights='pissa'",
        ),
        (
            {"modules_to_save": ["lm_head"]},
            "modules_to_save_unsupported",
            "Unsupported modules_to_save",
        ),
    ],
)
async def test_what_vllm_can_not_serve_is_refused_as_vllm_does(
    start: Any, make_adapter: AdapterMaker, changed: Json, code: str, sentence: str
) -> None:
    config = make_adapter("bad") / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    async with start() as routes:
        refused = await routes.load("bad", config.parent)
        assert error_of(refused) == (500, "InternalServerError", code)
        assert sentence in refused.json()["error"]["message"]
        config.unlink()
        missing = await routes.load("bad", config.parent)
        assert error_of(missing) == (404, "NotFoundError", "config_missing")
        assert "No adapter found for" in missing.json()["error"]["message"]


async def test_sagemaker_s_routes_load_and_unload(start: Any, make_adapter: AdapterMaker) -> None:
    folder = str(make_adapter("a"))
    async with start() as routes:
        client: httpx.AsyncClient = routes.client
        added = await client.post("/adapters", json={"name": "bot", "src": folder, "pin": False})
        assert (added.status_code, added.text) == (200, "Adapter bot registered")
        alias = {"X-Amzn-SageMaker-Adapter-Alias": "Shown"}
        removed = await client.delete("/adapters/bot", headers=alias)
        assert (removed.status_code, removed.text) == (200, "Adapter Shown unregistered")
        assert routes.engine.host == []
        gone = await client.delete("/adapters/bot")
        assert error_of(gone) == (404, "NotFoundError", "unknown_adapter")
        assert "cannot be found" in gone.json()["error"]["message"]
        by_query = await client.post("/adapters", params={"name": "bot", "src": folder})
        assert by_query.status_code == 200, by_query.text
        bodies: list[Any] = [{"name": "", "src": folder}, {"name": "bot"}, [], "bot"]
        for body in bodies:
            refused = await client.post("/adapters", json=body)
            assert error_of(refused) == (400, "InvalidUserInput", "invalid_request")
        assert (await client.post("/adapters", content=b"{")).status_code == 400


async def test_the_base_model_s_name_is_taken(start: Any, make_adapter: AdapterMaker) -> None:
    async with start() as routes:
        refused = await routes.load("tiny", make_adapter("a"))
        assert error_of(refused) == (400, "InvalidUserInput", "name_reserved")
        assert "conflicts with a served base model" in refused.json()["error"]["message"]


NAMES = ("Org/Adapter-7B", "org/adapter-7b", "BASE:ADAPTER", "größe", "a b", "模型", "x" * 200)


async def test_any_text_is_a_name_and_each_has_an_adapter_of_its_own(
    start: Any, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("one")
    async with start() as routes:
        for name in NAMES:
            assert (await routes.load(name, folder)).status_code == 200
            again = error_of(await routes.load(name, folder))
            assert again == (400, "InvalidUserInput", "already_loaded")
        assert len(set(routes.engine.host)) == len(NAMES)
        assert routes.engine.host[0].startswith("org-adapter-7b-")
        first = routes.engine.host[0]
        make_adapter("two", seed=1)
        newer = await routes.load(NAMES[0], "two", load_inplace=True)
        assert newer.status_code == 200, newer.text
        assert routes.engine.host[-1] == first.replace(":1", ":2")
        for name in NAMES:
            gone = await routes.client.post("/v1/unload_lora_adapter", json={"lora_name": name})
            assert gone.text == f"Success: LoRA adapter '{name}' removed successfully."
        assert routes.engine.host == []
        gone = await routes.client.post("/v1/unload_lora_adapter", json={"lora_name": "Nobody"})
        assert error_of(gone) == (404, "NotFoundError", "unknown_adapter")


async def test_an_adapters_further_name_loads_and_unloads_that_adapter(
    start: Any, make_adapter: AdapterMaker
) -> None:
    make_adapter("one")
    make_adapter("two", seed=1)
    async with start() as routes:
        assert (await routes.load("bot", "one")).status_code == 200
        for name, more in (("gpt", {}), ("Pinned", {"version": 1})):
            path = "/adapters/bot/names"
            set_name = await routes.registry.http.put(path, json={"name": name, **more})
            assert set_name.status_code == 200, set_name.text
        refused = error_of(await routes.load("Pinned", "two", load_inplace=True))
        assert refused[2] == "name_taken", "that would not be what the name means"
        assert (await routes.load("gpt", "two", load_inplace=True)).status_code == 200
        assert routes.engine.host == ["bot:1", "bot:2"]
        gone = await routes.client.post("/v1/unload_lora_adapter", json={"lora_name": "gpt"})
        assert gone.status_code == 200


@pytest.mark.parametrize(
    ("name", "code"), [("tiny", "name_reserved"), ("x:1", "invalid_reference"), ("\t", None)]
)
async def test_what_can_be_no_name_is_refused_before_anything_is_read(
    start: Any, name: str, code: str | None
) -> None:
    async with start() as routes:
        refused = error_of(await routes.load(name, "nowhere"))
        assert refused[:2] == (400, "InvalidUserInput")
        assert code in (None, refused[2])


def test_a_registry_name_is_one_for_each_owner() -> None:
    for tenant in (None, "acme", "t" * 32):
        found = [registry_name_of(name, tenant) for name in NAMES]
        assert len(set(found)) == len(NAMES)
        assert all(check_name(name) and tenant_of(name) == tenant for name in found)
    assert registry_name_of("Org/Adapter-7B", None) == "org-adapter-7b-1dc3f740"


async def test_a_load_that_others_keep_waiting_is_given_up_unchanged(
    start: Any, make_adapter: AdapterMaker
) -> None:
    first, second = make_adapter("first", seed=1), make_adapter("second", seed=2)
    async with start(wait_seconds=1) as routes:
        routes.engine.answers.clear()
        loading = asyncio.create_task(routes.load("bot", first))
        await asyncio.sleep(0.3)
        busy = await routes.load("bot", second, load_inplace=True)
        assert error_of(busy)[::2] == (503, "adapter_busy")
        assert int(busy.headers["retry-after"]) > 0
        routes.engine.answers.set()
        assert (await loading).status_code == 200
        assert routes.engine.host == ["bot:1"]
        assert (await routes.load("bot", second, load_inplace=True)).status_code == 200
