"""What tenants may register, on both databases: bytes that are kept, registrations in an hour."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from registry.api.access.tenants import create_tenant_router
from registry.auth.keys import KeyService
from registry.database.engine import Database
from registry.errors import TenantLimit
from registry.errors.access import Limit
from registry.ingest.service import IngestService
from registry.models import now
from registry.prompts.service import PromptSetService
from registry.quotas.limit_cache import LimitCache
from registry.quotas.limit_queries import all_limits, read_limits
from registry.quotas.limits import NO_LIMITS, TenantLimits
from registry.quotas.service import TenantQuotas
from registry.quotas.usage import LiveUsage
from registry.references import tenant_of
from registry.service import RegistryService
from registry.tenants.service import TenantService
from tests.support.servers.asgi_server import take_in

pytestmark = pytest.mark.both_databases

AdapterMaker = Callable[..., Path]
MIB = 2**20


class Quotas:
    """The service's quotas, with what they refused, and a manual clock."""

    def __init__(self, database: Database) -> None:
        self.at: datetime = now()
        self.refusals: list[tuple[str, Limit]] = []
        self.of_service = TenantQuotas(
            database,
            tenant_of,
            read_limits,
            lambda tenant, limit: self.refusals.append((tenant, limit)),
            lambda: self.at,
        )


@pytest.fixture
def quotas(database: Database, service: RegistryService) -> Quotas:
    made = Quotas(database)
    service.registrar.quotas = made.of_service
    return made


@pytest.fixture
async def client(
    app: FastAPI, database: Database, quotas: Quotas, ingest: IngestService
) -> AsyncIterator[httpx.AsyncClient]:
    live = LiveUsage(requests_in_flight=1, slots=2, host_bytes=3, pins=4)
    tenants = TenantService(database, live=lambda tenant: live)
    take_in(app, create_tenant_router(tenants, KeyService(database)))
    transport = httpx.ASGITransport(app=app)
    working = asyncio.create_task(ingest.run())
    async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
        yield client
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def limit(client: httpx.AsyncClient, tenant: str = "acme", **limits: int | None) -> None:
    made = await client.post("/tenants", json={"name": tenant, **limits})
    if made.status_code == 409:
        made = await client.patch(f"/tenants/{tenant}", json=limits)
    assert made.is_success, made.text


async def register(client: httpx.AsyncClient, name: str, folder: Path) -> httpx.Response:
    return await client.post(f"/adapters/{name}/versions", json={"source": str(folder)})


async def upload(client: httpx.AsyncClient, name: str, folder: Path) -> dict[str, Any]:
    """The job, once it has ended."""
    files = [("files", (file.name, file.read_bytes())) for file in sorted(folder.iterdir())]
    accepted = await client.post(f"/adapters/{name}/versions?wait=0", files=files)
    assert accepted.status_code == 202, accepted.text
    job: dict[str, Any] = accepted.json()
    async with asyncio.timeout(20):
        while job["state"] not in ("succeeded", "failed"):
            await asyncio.sleep(0.02)
            job = (await client.get(f"/jobs/{job['id']}")).json()
    return job


async def usage(client: httpx.AsyncClient, tenant: str = "acme") -> dict[str, int]:
    found: dict[str, int] = (await client.get(f"/tenants/{tenant}")).json()["usage"]
    return found


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


# ---- bytes that are kept ---------------------------------------------------------------------


async def test_a_tenant_keeps_no_more_bytes_than_it_may(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, quotas: Quotas
) -> None:
    one, two, three = (make_adapter(f"f{n}", seed=n) for n in range(3))
    size = size_of(one)
    await limit(client, max_storage_bytes=2 * size + 10)
    await limit(client, "zeta", max_storage_bytes=10 * size)
    assert (await register(client, "acme~a", one)).status_code == 201
    assert (await register(client, "acme~b", two)).status_code == 201
    refused = await register(client, "acme~a", three)
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_limit")
    assert "retry-after" not in refused.headers
    assert quotas.refusals == [("acme", Limit.STORAGE_BYTES)]
    assert (await client.get("/adapters/acme~a/versions/2")).status_code == 404
    assert (await register(client, "zeta~a", three)).status_code == 201
    assert (await register(client, "plain", three)).status_code == 201
    assert (await register(client, "acme~a", one)).status_code == 200  # it is there already
    assert (await usage(client))["storage_bytes"] == 2 * size


async def test_prompts_leave_adapters_less_room(
    client: httpx.AsyncClient, database: Database, make_adapter: AdapterMaker, quotas: Quotas
) -> None:
    folder = make_adapter("a")
    await limit(client, max_storage_bytes=size_of(folder) + 10)
    sets = PromptSetService(database, quotas.of_service)
    await sets.save("acme", "mine", ["x" * 11], actor="tests")
    refused = await register(client, "acme~a", folder)
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_limit")
    await sets.save("acme", "mine", ["x" * 10], actor="tests")
    assert (await register(client, "acme~a", folder)).status_code == 201
    with pytest.raises(TenantLimit):
        await sets.save("acme", "mine", ["x" * 11], actor="tests")
    assert quotas.refusals == [("acme", Limit.STORAGE_BYTES)] * 2


async def test_names_that_sort_beside_a_tenants_are_not_its_own(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    for tenant in ("acme", "acme-2", "acm", "acmea"):
        await limit(client, tenant)
        assert (await register(client, f"{tenant}~zz", folder)).status_code == 201
    for tenant in ("acme", "acme-2", "acm", "acmea"):
        assert (await usage(client, tenant))["storage_bytes"] == size_of(folder)


async def test_what_is_purged_makes_room_and_coming_back_takes_it(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    one, two = make_adapter("f1", seed=1), make_adapter("f2", seed=2)
    await limit(client, max_storage_bytes=size_of(one) + 10)
    assert (await register(client, "acme~a", one)).status_code == 201
    version = "/adapters/acme~a/versions/1"
    assert (await client.delete("/adapters/acme~a/aliases/default")).is_success
    assert (await client.post(f"{version}/retire", json={})).is_success
    assert (await register(client, "acme~a", two)).status_code == 409  # its files are still kept
    assert (await client.post(f"{version}/purge", json={})).is_success
    assert (await usage(client))["storage_bytes"] == 0
    assert (await register(client, "acme~a", two)).status_code == 201
    refused = await register(client, "acme~a", one)
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_limit")
    assert (await client.get(version)).json()["state"] == "purged"


@pytest.mark.parametrize("names", [("acme~a", "acme~b"), ("acme~a", "acme~a")])
async def test_two_concurrent_registrations_do_not_both_pass_the_limit(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    service: RegistryService,
    names: tuple[str, str],
) -> None:
    folders = [make_adapter(f"f{n}", seed=n) for n in range(4)]
    size = size_of(folders[0])
    await limit(client, max_storage_bytes=3 * size + 10)
    for name, folder in zip(names, folders, strict=False):
        assert (await register(client, name, folder)).status_code == 201
    answers = await asyncio.gather(
        *(register(client, name, folder) for name, folder in zip(names, folders[2:], strict=True))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert (await usage(client))["storage_bytes"] == 3 * size


async def test_an_upload_that_is_too_large_is_refused_before_it_is_read(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await limit(client, max_storage_bytes=1000)
    chunks_sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal chunks_sent
        while chunks_sent < 2:
            chunks_sent += 1
            yield b"x" * MIB

    refused = await client.post(
        "/adapters/acme~a/versions",
        content=body(),
        headers={
            "content-type": "multipart/form-data; boundary=b",
            "content-length": str(2 * MIB),
        },
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_limit")
    assert (await client.get("/jobs")).json()["items"] == []
    assert (await usage(client))["registrations_in_last_hour"] == 0


async def test_a_job_whose_files_turn_out_to_be_too_many_fails_with_the_code(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    await limit(client, max_storage_bytes=size_of(folder) - 1)
    job = await upload(client, "acme~a", folder)
    assert (job["state"], job["code"]) == ("failed", "tenant_limit"), job
    assert (await client.get("/adapters/acme~a")).status_code == 404
    await limit(client, max_storage_bytes=size_of(folder))
    job = await upload(client, "acme~a", folder)
    assert (job["state"], job["version"]) == ("succeeded", "acme~a:1"), job
    assert (await usage(client))["storage_bytes"] == size_of(folder)


async def test_a_limit_holds_while_an_archive_is_unpacked(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is small as it is sent, and would take eight times the tenant's room."""
    monkeypatch.setattr("registry.quotas.service.MAX_FIELDS_BYTES", 1000)
    await limit(client, max_storage_bytes=100_000)
    folder = make_adapter("a")
    with (folder / "adapter_model.safetensors").open("r+b") as weights:
        weights.truncate(800_000)
    (folder / "a.tgz").write_bytes(packed(folder))
    for file in folder.glob("adapter_*"):
        file.unlink()
    job = await upload(client, "acme~a", folder)
    assert (job["state"], job["code"]) == ("failed", "tenant_limit"), job
    assert "the tenant acme has no room" in job["detail"]
    assert job["bytes_done"] < 200_000


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, "a")
    return buffer.getvalue()


# ---- registrations in an hour ----------------------------------------------------------------


async def test_a_tenant_registers_so_often_in_an_hour(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, quotas: Quotas
) -> None:
    folder = make_adapter("a")
    await limit(client, max_registrations_per_hour=2)
    assert (await register(client, "acme~a", folder)).status_code == 201
    quotas.at += timedelta(minutes=20)
    assert (await upload(client, "acme~b", folder))["state"] == "succeeded"
    quotas.at += timedelta(minutes=10)
    refused = await register(client, "acme~c", folder)
    assert (refused.status_code, refused.json()["code"]) == (429, "tenant_limit")
    assert refused.headers["retry-after"] == "1800"
    assert quotas.refusals == [("acme", Limit.REGISTRATIONS_PER_HOUR)]
    assert (await register(client, "plain", folder)).status_code == 201
    quotas.at += timedelta(seconds=1800)
    assert (await register(client, "acme~c", folder)).status_code == 201
    assert (await register(client, "acme~d", folder)).status_code == 429


async def test_what_could_not_be_registered_counts_too(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    (folder / "adapter_config.json").write_text("{}")
    await limit(client, max_registrations_per_hour=1)
    assert (await register(client, "acme~a", folder)).status_code == 422
    assert (await register(client, "acme~a", folder)).status_code == 429
    assert (await usage(client))["registrations_in_last_hour"] == 1


async def test_of_many_concurrent_registrations_only_the_allowed_number_begin(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    await limit(client, max_registrations_per_hour=3)
    answers = await asyncio.gather(*(register(client, f"acme~a{n}", folder) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5


async def test_a_limit_of_none_at_all_is_not_worth_waiting_for(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    await limit(client, max_registrations_per_hour=0)
    refused = await register(client, "acme~a", folder)
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_limit")
    assert "retry-after" not in refused.headers
    await limit(client, max_registrations_per_hour=None)
    assert (await register(client, "acme~a", folder)).status_code == 201


async def test_a_tenant_that_does_not_exist_registers_nothing(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    refused = await register(client, "nobody~a", make_adapter("a"))
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_tenant")


# ---- what is shown and known -----------------------------------------------------------------


async def test_usage_stands_beside_the_limits(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    await limit(client, max_pins=5)
    await register(client, "acme~a", folder)
    shown = (await client.get("/tenants/acme")).json()
    assert shown["max_pins"] == 5
    assert shown["usage"] == {
        "requests_in_flight": 1,
        "slots": 2,
        "host_bytes": 3,
        "pins": 4,
        "storage_bytes": size_of(folder),
        "registrations_in_last_hour": 1,
    }
    await limit(client, "zeta")
    first = (await client.get("/usage/tenants", params={"limit": 1})).json()
    assert first["items"] == [shown]
    after = {"page_token": first["next_page_token"]}
    second = (await client.get("/usage/tenants", params=after)).json()
    assert [item["name"] for item in second["items"]] == ["zeta"]
    assert second["items"][0]["usage"]["storage_bytes"] == 0


async def test_the_engine_hears_of_limits(client: httpx.AsyncClient, database: Database) -> None:
    from_there = LimitCache(lambda: all_limits(database), database.seen_commits())
    await limit(client, "zeta")
    await limit(client, max_slots=2)
    await from_there.refresh()
    assert from_there.limits_of("acme") == TenantLimits(max_slots=2)
    assert from_there.limits_of("zeta") == NO_LIMITS
    await limit(client, max_slots=None)
    await from_there.refresh()
    assert from_there.limits_of("acme") == NO_LIMITS


async def test_a_recreated_tenant_starts_without_usage(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    (folder / "adapter_config.json").write_text("{}")
    await limit(client, max_registrations_per_hour=1)
    assert (await register(client, "acme~a", folder)).status_code == 422
    assert (await client.delete("/tenants/acme")).status_code == 204
    await limit(client, max_registrations_per_hour=1)
    assert (await usage(client))["registrations_in_last_hour"] == 0
