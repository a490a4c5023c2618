"""Several base models in one registry: each server serves what is bound to its own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from engine.gateway.pinned_resolver import PinnedResolver, pin_reference
from engine.operations.lora_names import LoraName
from engine.operations.named_adapters import NamedAdapters
from engine.resolver import RegistryResolver, check_base
from registry.aliases.promotion import Preparation
from registry.api.router import create_router
from registry.catalog.types import ResolvedVersion
from registry.database.engine import Database
from registry.errors import FilesMissing, InvalidAdapter, OtherBaseModel, UnknownAdapter
from registry.errors.defects import Defect
from registry.inspection.base_identity import identity_of
from registry.inspection.supported_modules import SupportedModule, SupportedModules
from registry.models import Version
from registry.service import RegistryService
from registry.storage.store import ArtifactStore
from tests.api.conftest import BASE, MODULE, AdapterMaker, Run
from tests.support.adapters.fake_naming import FakeNaming
from tests.support.servers.asgi_server import take_in

pytestmark = pytest.mark.both_databases

INSTRUCT = replace(BASE, name="instruct")  # another one of the same shape


@pytest.fixture
def other(database: Database, service: RegistryService) -> RegistryService:
    """The registry of a second server, which serves another base model."""
    return RegistryService(database, service.store, INSTRUCT, max_rank=16)


@pytest.fixture
async def elsewhere(other: RegistryService) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    take_in(app, create_router(other))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://other/api/v1") as http:
        yield http


async def publish(service: RegistryService, name: str, folder: Path) -> Any:
    return (await service.registrar.register(name, str(folder), actor="test")).published


async def resolved(service: RegistryService, text: str) -> str:
    return (await RegistryResolver(service.catalog).resolve(text)).reference


async def test_a_version_of_another_base_model_is_neither_resolved_nor_listed(
    service: RegistryService,
    other: RegistryService,
    elsewhere: httpx.AsyncClient,
    make_adapter: AdapterMaker,
) -> None:
    published = await publish(service, "upper", make_adapter("upper"))
    assert published.base == "tiny"
    assert await resolved(service, "upper") == "upper:1"
    for reference in ("upper", "upper:1", "upper@default"):
        with pytest.raises(OtherBaseModel):
            await resolved(other, reference)
    assert [found.reference for found in await service.catalog.served_references()] == ["upper"]
    assert await other.catalog.served_references() == []
    refused = await elsewhere.get("/resolve", params={"reference": "upper"})
    assert (refused.status_code, refused.json()["code"]) == (409, "other_base_model")
    assert "belongs to the base model tiny; this server serves instruct" in refused.json()["detail"]
    found = await RegistryResolver(other.catalog).find("upper")
    assert found.reference == "upper:1", "operators find it in any case"


async def test_an_engine_elsewhere_is_told_what_is_bound_to_its_own_base_model(
    client: httpx.AsyncClient,
    service: RegistryService,
    other: RegistryService,
    make_adapter: AdapterMaker,
) -> None:
    await publish(service, "upper", make_adapter("upper", seed=1))
    await publish(other, "lower", make_adapter("lower", seed=2))
    tiny, instruct = str(BASE.identity), str(INSTRUCT.identity)

    async def asked(reference: str, base: str) -> tuple[int, str]:
        answer = await client.get("/resolve", params={"reference": reference, "base": base})
        return answer.status_code, answer.json().get("code") or answer.json()["reference"]

    assert await asked("upper", tiny) == (200, "upper:1")
    assert await asked("lower", instruct) == (200, "lower:1")
    for reference, base in (("upper", instruct), ("lower", tiny), ("upper", f"new#{'0' * 64}")):
        assert await asked(reference, base) == (409, "other_base_model")
    await other.bases.link("tiny", "instruct", actor="anna")
    assert await asked("upper", instruct) == (200, "upper:1")
    for bad in ("tiny", "tiny#12", f"a\0b#{'0' * 64}"):
        assert await asked("upper", bad) == (422, "invalid_request")


async def test_a_replica_of_another_base_model_refuses_what_its_ingress_has_resolved(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "upper", make_adapter("upper"))
    with pin_reference("upper:1"):
        here, there = (PinnedResolver(RegistryResolver(s.catalog)) for s in (service, other))
        assert (await here.resolve("upper")).reference == "upper:1"
        with pytest.raises(OtherBaseModel):
            await there.resolve("upper")


async def test_vllms_route_unloads_what_its_own_engine_serves_and_nothing_else(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "upper", make_adapter("first", seed=1))
    await publish(other, "upper", make_adapter("second", seed=2))
    evicted: list[str] = []
    engine: Any = SimpleNamespace(evict_when_idle=lambda version: evicted.append(version.reference))
    unused: Any = None
    adapters = NamedAdapters(other, unused, unused, engine)
    await adapters.unload(LoraName("upper", "upper", None), actor="test")
    assert evicted == ["upper:2"]
    states = [(await service.catalog.version("upper", n)).version.state for n in (1, 2)]
    assert states == ["ready", "retired"]
    with pytest.raises(UnknownAdapter):
        await adapters.unload(LoraName("upper", "upper", None), actor="test")


async def test_a_replica_asks_whether_a_version_is_its_own_in_any_state(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    """Before it loads, for a pin or a prefetch of the ingress's."""
    await publish(service, "upper", make_adapter("upper"))
    await service.lifecycle.quarantine("upper:1", "probe", "probe_failed", "test")
    await check_base(service.catalog, "upper:1")
    with pytest.raises(OtherBaseModel):
        await check_base(other.catalog, "upper:1")


async def test_an_engine_with_other_modules_serves_the_same_base_model_and_compares_each_load(
    database: Database, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    """As after an upgrade of vLLM: nothing is unbound, and what no longer fits is refused alone."""
    await publish(service, "upper", make_adapter("upper"))
    for module, fits in ((MODULE, True), ("model.layers.0.mlp.experts", False)):
        served = SupportedModules("vllm 99", {module: SupportedModule(None)}, FakeNaming([module]))
        upgraded = replace(BASE, served=served)
        later = RegistryService(database, service.store, upgraded, max_rank=16)
        version = await RegistryResolver(later.catalog).resolve("upper")
        assert version.reference == "upper:1"
        misfit = later.registrar.find_misfit(Path(version.path))
        assert (misfit is None) is fits
        assert misfit is None or misfit.code == Defect.MODULE_NOT_SERVED


async def test_of_a_split_alias_each_server_takes_what_is_its_own(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "bot", make_adapter("one", seed=1))
    await publish(other, "bot", make_adapter("two", seed=2))
    await service.aliases.point("bot", "prod", {1: 1, 2: 9}, actor="test")
    assert await resolved(service, "bot@prod") == "bot:1"
    assert await resolved(other, "bot@prod") == "bot:2"


async def test_the_same_files_are_not_registered_for_two_base_models(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("upper")
    await publish(service, "upper", folder)
    with pytest.raises(OtherBaseModel):
        await publish(other, "upper", folder)
    assert (await publish(other, "upper-instruct", folder)).base == "instruct"


async def test_compatible_base_models_serve_each_other_s_versions_until_that_is_withdrawn(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "upper", make_adapter("upper", seed=1))
    await publish(other, "lower", make_adapter("lower", seed=2))
    here, there = RegistryResolver(service.catalog), RegistryResolver(other.catalog)
    await other.bases.link("tiny", "instruct", actor="anna", reason="merged from it")
    assert (await there.resolve("upper")).reference == "upper:1"
    assert (await here.resolve("lower")).reference == "lower:1"
    served = await service.catalog.served_references()
    assert [found.reference for found in served] == ["lower", "upper"]
    assert {base.name: base.links for base in await service.bases.all()} == {
        "instruct": ("tiny",),
        "tiny": ("instruct",),
    }
    await other.bases.unlink("instruct", "tiny", actor="anna")
    with pytest.raises(OtherBaseModel):
        await there.resolve("upper")


async def test_another_server_learns_that_base_models_are_no_longer_compatible(
    service: RegistryService, database_url: str, make_adapter: AdapterMaker
) -> None:
    elsewhere = Database(database_url)
    second = RegistryService(elsewhere, service.store, INSTRUCT, max_rank=16)
    await publish(service, "upper", make_adapter("upper"))
    await second.bases.open()
    await service.bases.link("tiny", "instruct", actor="anna")
    resolver = RegistryResolver(second.catalog)
    await second.catalog.poll_changes_now()
    assert (await resolver.resolve("upper")).reference == "upper:1"
    await service.bases.unlink("tiny", "instruct", actor="anna")
    await second.catalog.poll_changes_now()
    with pytest.raises(OtherBaseModel):
        await resolver.resolve("upper")
    await elsewhere.close()


async def test_a_recheck_takes_over_only_what_it_names_and_what_fits(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "upper", make_adapter("upper"))
    with pytest.raises(OtherBaseModel):
        await other.recheck.recheck("upper", 1, actor="anna")
    taken = await other.recheck.recheck("upper", 1, actor="anna", from_base="tiny")
    assert taken.base == "instruct"
    remarks = (taken.version.inspection or {})["remarks"]
    assert "base_model_differs" in [remark["code"] for remark in remarks]
    assert await resolved(other, "upper") == "upper:1"
    with pytest.raises(OtherBaseModel):
        await resolved(service, "upper")


async def test_a_recheck_that_names_another_base_model_than_the_version_s_is_refused(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    """Even where it changes nothing: whoever asked was mistaken about the version."""
    await publish(service, "upper", make_adapter("upper", seed=1))
    await publish(other, "lower", make_adapter("lower", seed=2))
    with pytest.raises(OtherBaseModel):
        await service.recheck.recheck("upper", 1, actor="anna", from_base="instruct")
    rechecked = await service.recheck.recheck("upper", 1, actor="anna", from_base="tiny")
    assert rechecked.base == "tiny"


async def test_what_does_not_fit_stays_where_it_was(
    database: Database, service: RegistryService, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    await publish(service, "upper", make_adapter("upper"))
    wide = replace(BASE, name="wide", shapes={next(iter(BASE.shapes or {})): (99, 99)})
    changed = RegistryService(database, service.store, wide, max_rank=16)
    with pytest.raises(InvalidAdapter):
        await changed.recheck.recheck("upper", 1, actor="anna", from_base="tiny")
    assert await resolved(service, "upper") == "upper:1"
    empty = ArtifactStore(tmp_path / "empty", source_roots=[], max_bytes=1)
    empty.open()
    without = RegistryService(database, empty, INSTRUCT, max_rank=16)
    with pytest.raises(FilesMissing):
        await without.recheck.recheck("upper", 1, actor="anna", from_base="tiny")


async def test_a_version_from_before_is_bound_by_the_first_engine_that_it_fits(
    database: Database, service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "upper", make_adapter("upper"))
    async with database.transaction() as session:
        await session.execute(update(Version).values(base_id=None))
    with pytest.raises(OtherBaseModel, match="bound to no base model yet"):
        await resolved(service, "upper")
    wide = replace(BASE, name="wide", shapes={next(iter(BASE.shapes or {})): (99, 99)})
    await RegistryService(database, service.store, wide, max_rank=16).recover()
    await service.recover()
    await other.recover()
    bound = await service.catalog.version("upper", 1)
    assert bound.base == "tiny"
    remarks = (bound.version.inspection or {})["remarks"]
    assert "base_model_assumed" in [remark["code"] for remark in remarks]
    assert await resolved(service, "upper") == "upper:1"


async def test_a_purged_version_from_before_is_bound_to_nothing_and_is_no_misfit(
    database: Database,
    service: RegistryService,
    make_adapter: AdapterMaker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for seed in (1, 2):
        await publish(service, "upper", make_adapter(f"upper{seed}", seed=seed))
    await service.lifecycle.retire("upper", 2, actor="anna")
    await service.lifecycle.purge("upper", 2, actor="anna")
    async with database.transaction() as session:
        await session.execute(update(Version).values(base_id=None))
    await service.recover()
    assert "1 versions from before" in caplog.text
    assert "0 do not fit" in caplog.text
    assert (await service.catalog.version("upper", 2)).base is None


class Engine:
    """Notes what it is asked to warm."""

    def __init__(self) -> None:
        self.warmed: list[int] = []

    async def warm(self, version: ResolvedVersion, old: object) -> None:
        self.warmed.append(version.number)

    async def probe(self, version: ResolvedVersion) -> None:
        raise AssertionError("not asked for")

    def evict_when_idle(self, version: ResolvedVersion) -> None:
        raise AssertionError("not asked for")


async def test_an_engine_warms_for_a_promotion_only_what_it_serves(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "bot", make_adapter("one", seed=1))
    await publish(other, "bot", make_adapter("two", seed=2))
    service.set_serving_engine(engine := Engine())
    await service.promotion.promote("bot", "prod", {2: 1}, Preparation(), actor="test")
    assert engine.warmed == []
    with pytest.raises(OtherBaseModel):
        await service.promotion.promote("bot", "next", {2: 1}, Preparation(warm=True), actor="test")
    assert await resolved(other, "bot@prod") == "bot:2"


async def test_lists_are_filtered_by_base_model(
    client: httpx.AsyncClient,
    service: RegistryService,
    other: RegistryService,
    make_adapter: AdapterMaker,
) -> None:
    await publish(service, "upper", make_adapter("upper", seed=1))
    await publish(other, "lower", make_adapter("lower", seed=2))
    for path, key in (("/versions", "adapter"), ("/adapters", "name")):
        for base, names in (("tiny", ["upper"]), ("instruct", ["lower"]), ("tin", [])):
            items = (await client.get(path, params={"base": base})).json()["items"]
            assert [item[key] for item in items] == names, (path, base)
    assert (await client.get("/versions")).json()["items"][1]["base"] == "instruct"
    folder = (await client.get("/adapters/lower/versions", params={"base": "tiny"})).json()
    assert folder["items"] == []


async def test_a_name_without_its_revision_means_a_base_model_if_there_is_one(
    client: httpx.AsyncClient, database: Database, service: RegistryService
) -> None:
    for revision in ("a", "b"):
        identity = identity_of("org/llama", None, revision=revision)
        base = replace(BASE, read=identity)
        await RegistryService(database, service.store, base, max_rank=16).bases.open()
    await service.bases.open()

    async def link(base: str, other: str) -> tuple[int, str]:
        answer = await client.post("/bases/link", json={"base": base, "other": other})
        return answer.status_code, answer.json().get("code", "")

    assert await link("tiny", "org/llama@a") == (200, "")
    assert await link("tiny", "org/llama") == (400, "ambiguous_base")
    assert await link("tiny", "llama") == (404, "unknown_base")
    assert await link("tiny", "tiny") == (400, "same_base")


async def test_base_models_on_the_command_line(
    run: Run, service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await service.bases.open()
    await publish(other, "lower", make_adapter("lower"))
    code, out, _ = await run("base", "list")
    assert code == 0
    assert "tiny (served here)" in out
    assert "instruct" in out
    code, out, _ = await run("adapter", "list", "--base", "instruct")
    assert (code, "lower" in out) == (0, True)
    code, out, _ = await run("adapter", "list", "--base", "tiny")
    assert (code, "lower" in out) == (0, False)
    code, out, _ = await run("adapter", "recheck", "lower")
    assert (code, "other_base_model" in out) == (1, True)
    code, out, _ = await run("base", "link", "tiny", "instruct", "--reason", "the same weights")
    assert code == 0
    assert await resolved(service, "lower") == "lower:1"
    code, out, _ = await run("base", "unlink", "tiny", "instruct")
    assert code == 0
    code, out, _ = await run("adapter", "recheck", "--from", "instruct")
    assert (code, "fits tiny" in out) == (0, True)
    assert await resolved(service, "lower") == "lower:1"


async def test_versions_count_by_base_model(
    service: RegistryService, other: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish(service, "upper", make_adapter("one", seed=1))
    await publish(service, "upper", make_adapter("two", seed=2))
    await other.bases.open()
    assert {base.name: base.versions for base in await service.bases.all()} == {
        "instruct": 0,
        "tiny": 2,
    }


async def test_a_link_that_several_ask_for_at_once_is_made_and_taken_back_once(
    service: RegistryService, other: RegistryService, client: httpx.AsyncClient
) -> None:
    """Such as a client that asks again. On PostgreSQL all but the first got an internal error."""
    await service.bases.open()
    await other.bases.open()
    pair = {"base": "tiny", "other": "instruct"}
    for change in ("link", "unlink"):
        asked = [client.post(f"/bases/{change}", json=pair) for _ in range(6)]
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    found = (await client.get("/events", params={"limit": 500})).json()["items"]
    assert [event["kind"] for event in found] == ["base.linked", "base.unlinked"]
