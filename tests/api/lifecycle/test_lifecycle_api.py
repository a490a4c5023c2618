"""States over REST: what is still served, what is refused and how, and where the files go."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event

from registry.errors import InvalidReference, TransitionRefused, UnknownVersion
from registry.ingest.cleanup import Cleanup
from registry.lifecycle.service import MAX_REASON
from registry.references import parse_reference
from registry.service import RegistryService
from tests.api.conftest import Run
from tests.api.helpers import (
    AdapterMaker,
    assert_problem,
    kinds,
    publish,
    publish_some,
    resolved,
    step,
)

pytestmark = pytest.mark.both_databases


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store" / "adapters"


def stored(store: Path) -> set[str]:
    return {path.name for path in store.glob("??/*")}


async def sweep(service: RegistryService) -> None:
    retention = timedelta(days=1)
    await Cleanup(service.store, service._database, retention=retention).run()


async def state(client: httpx.AsyncClient, reference: str) -> str:
    name, _, number = reference.partition(":")
    found: str = (await client.get(f"/adapters/{name}/versions/{number}")).json()["state"]
    return found


async def test_a_deprecated_version_is_served_and_says_so(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    response = await step(client, "bot:1", "deprecate", reason="old data")
    assert response.status_code == 200
    version = response.json()
    assert (version["state"], version["state_reason"]) == ("deprecated", "old data")
    assert version["state_changed_at"] > version["created_at"]
    found = await service.catalog.resolve(parse_reference("bot"))
    assert found.deprecated_at is not None
    assert found.state_reason == "old data"
    assert [found.reference for found in await service.catalog.served_references()] == ["bot"]
    moved = await client.put("/adapters/bot/aliases/prod", json={"version": 1})
    assert moved.status_code == 200


async def test_a_retired_version_answers_410_to_new_requests(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    assert (await step(client, "bot:2", "retire", reason="worse")).status_code == 200
    response = await client.get("/resolve", params={"reference": "bot:2"})
    assert_problem(response, 410, "version_retired")
    assert "worse" in response.json()["detail"]
    moved = await client.put("/adapters/bot/aliases/prod", json={"version": 2})
    assert_problem(moved, 409, "version_not_servable")
    assert [found.reference for found in await service.catalog.served_references()] == ["bot"]


async def test_an_aliased_version_is_retired_only_with_its_aliases_moved_or_by_force(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    await client.put("/adapters/bot/aliases/prod", json={"version": 1})
    refused = await step(client, "bot:1", "retire")
    assert_problem(refused, 409, "version_aliased")
    assert "default, prod" in refused.json()["detail"]
    to_itself = await step(client, "bot:1", "retire", move_aliases_to=1)
    assert_problem(to_itself, 409, "version_aliased")
    to_nothing = await step(client, "bot:1", "retire", move_aliases_to=9)
    assert_problem(to_nothing, 404, "unknown_version")
    assert await state(client, "bot:1") == "ready"

    await step(client, "bot:1", "retire", move_aliases_to=2)
    assert await state(client, "bot:1") == "retired"
    assert await resolved(client, "bot") == await resolved(client, "bot@prod") == 2

    await step(client, "bot:2", "retire", force=True)
    for reference in ("bot", "bot@prod", "bot:2"):
        response = await client.get("/resolve", params={"reference": reference})
        assert_problem(response, 410, "version_retired")
    assert await service.catalog.served_references() == []


async def test_a_canary_loses_a_quarantined_version_and_moves_a_retired_one(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    weights = [{"version": 1, "weight": 1}, {"version": 2, "weight": 9}]
    await client.put("/adapters/bot/aliases/default", json={"weights": weights})
    await step(client, "bot:2", "quarantine", reason="NaN", code="load_failed")
    for user in range(20):
        found = await client.get("/resolve", params={"reference": "bot", "user": str(user)})
        assert found.json()["number"] == 1
    refused = await client.get("/resolve", params={"reference": "bot:2"})
    assert_problem(refused, 409, "version_quarantined")
    await step(client, "bot:2", "restore")
    await step(client, "bot:2", "retire", move_aliases_to=3)
    alias = (await client.get("/adapters/bot/aliases/default")).json()
    assert alias["weights"] == [{"version": 1, "weight": 1}, {"version": 3, "weight": 9}]
    await step(client, "bot:1", "retire", move_aliases_to=3)
    alias = (await client.get("/adapters/bot/aliases/default")).json()
    assert alias["weights"] == [{"version": 3, "weight": 10}]


async def test_quarantine_keeps_its_reason_and_code_until_it_is_restored(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    response = await step(client, "bot:1", "quarantine", reason="NaN in B", code="not_finite")
    version = response.json()
    assert (version["state_code"], version["state_reason"]) == ("not_finite", "NaN in B")
    response = await client.get("/resolve", params={"reference": "bot"})
    assert_problem(response, 409, "version_quarantined")
    events = (await client.get("/adapters/bot/events")).json()["items"]
    assert events[-1]["reason"] == "not_finite: NaN in B"
    version = (await step(client, "bot:1", "restore", reason="was the disk")).json()
    assert version["state"] == "ready"
    assert version["state_code"] is version["state_reason"] is None
    assert await resolved(client, "bot") == 1


async def test_the_event_of_a_quarantine_has_room_for_the_longest_reason(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    """PostgreSQL refuses what is longer than its column."""
    await publish_some(client, make_adapter, "bot", 1)
    reason, code = "x" * MAX_REASON, "c" * 64
    done = await step(client, "bot:1", "quarantine", reason=reason, code=code)
    assert (done.status_code, done.json()["state_reason"]) == (200, reason)
    events = (await client.get("/adapters/bot/events")).json()["items"]
    assert events[-1]["reason"] == f"{code}: {reason}"[:MAX_REASON]


async def test_the_engine_quarantines_by_row_id_or_reference(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    found = await service.catalog.resolve(parse_reference("bot:2"))
    published = await service.lifecycle.quarantine(found.version_id, "bad", "load_failed", "engine")
    assert published.reference == "bot:2"
    odd = await service.lifecycle.quarantine("bot:1", "bad \0\ud800" + "x" * 2000, "odd", "engine")
    assert odd.version.state_reason == "bad ??" + "x" * 1018
    await service.lifecycle.quarantine("bot:1", "bad", "load_failed", "engine")
    again = await service.lifecycle.quarantine("bot:1", "bad", "load_failed", "engine")
    assert again.version.state == "quarantined"
    assert (await kinds(client, "bot")).count("version.quarantined") == 3
    with pytest.raises(InvalidReference):
        await service.lifecycle.quarantine("bot@default", "bad", "load_failed", "engine")
    with pytest.raises(UnknownVersion):
        await service.lifecycle.quarantine(999, "bad", "load_failed", "engine")
    await service.lifecycle.retire("bot", 2, actor="test")
    await service.lifecycle.purge("bot", 2, actor="test")
    with pytest.raises(TransitionRefused):
        await service.lifecycle.quarantine("bot:2", "bad", "load_failed", "engine")


async def test_the_server_condemns_a_version_only_on_proof(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    found = await service.catalog.resolve(parse_reference("bot:2"))

    async def condemned() -> bool:
        return await service.condemnation.condemn(found.version_id, found.digest, actor="engine")

    assert not await condemned(), "the files are right"
    away = store.with_name("away")
    store.rename(away)
    assert not await condemned(), "the store is away"
    assert_problem(await step(client, "bot:2", "restore"), 503, "store_unavailable")
    store.mkdir()
    assert not await condemned(), "an empty disk is in its place"
    store.rmdir()
    away.rename(store)
    aside = found.path.with_name("aside")
    found.path.rename(aside)
    assert not await condemned(), "they are missing"
    assert_problem(await step(client, "bot:2", "restore"), 409, "files_missing")
    aside.rename(found.path)
    assert await state(client, "bot:2") == "ready"

    weights = found.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    assert await condemned()
    version = (await client.get("/adapters/bot/versions/2")).json()
    assert (version["state"], version["state_code"]) == ("quarantined", "files_damaged")
    assert "digest" in version["state_reason"]
    assert await state(client, "bot:1") == "ready"
    assert_problem(await step(client, "bot:2", "restore"), 409, "files_damaged")


async def test_purging_deletes_the_files_and_keeps_the_number(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    digest = (await client.get("/adapters/bot/versions/2")).json()["digest"]
    assert_problem(await step(client, "bot:2", "purge"), 409, "transition_refused")
    assert digest in stored(store)
    await step(client, "bot:2", "retire")
    purge = (await step(client, "bot:2", "purge", reason="old")).json()
    assert purge["version"]["state"] == "purged"
    assert purge["freed_bytes"] == purge["version"]["size_bytes"]
    assert digest not in stored(store)
    assert not list((store.parent / "quarantine").iterdir())
    assert not service.store.pending_digests()
    assert len(list((store.parent / "seals").iterdir())) == 1
    response = await client.get("/resolve", params={"reference": "bot:2"})
    assert_problem(response, 410, "version_purged")
    assert_problem(await step(client, "bot:2", "restore"), 409, "files_missing")
    again = await step(client, "bot:2", "purge")
    assert (again.status_code, again.json()["freed_bytes"]) == (200, 0)
    third = await publish(client, "bot", make_adapter("third", seed=3))
    assert third.json()["number"] == 3


async def test_files_that_another_version_has_too_stay(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish(client, "one", make_adapter("a"))
    digest = (await publish(client, "two", make_adapter("b"))).json()["digest"]
    await step(client, "one:1", "retire", force=True)
    assert_problem(await step(client, "one:1", "purge"), 409, "version_aliased")
    await client.delete("/adapters/one/aliases/default")
    assert (await step(client, "one:1", "purge")).json()["freed_bytes"] == 0
    assert stored(store) == {digest}
    assert await resolved(client, "two") == 1
    await step(client, "two:1", "retire", force=True)
    await client.delete("/adapters/two/aliases/default")
    assert (await step(client, "two:1", "purge")).json()["freed_bytes"] > 0
    assert stored(store) == set()


async def test_a_version_with_damaged_files_is_not_restored(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    await step(client, "bot:1", "quarantine", reason="wrong answers")
    (folder,) = store.glob("??/*")
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_problem(await step(client, "bot:1", "restore"), 409, "files_damaged")
    weights.write_bytes(content)
    assert (await step(client, "bot:1", "restore")).status_code == 200
    await step(client, "bot:1", "quarantine", reason="gone")
    shutil.rmtree(folder)
    assert_problem(await step(client, "bot:1", "restore"), 409, "files_missing")
    assert await state(client, "bot:1") == "quarantined"


async def test_damaged_files_are_repaired_by_the_same_content(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    """A registration kept them, and marked them as checked: a restore believed that."""
    await publish(client, "bot", make_adapter("a"))
    await step(client, "bot:1", "quarantine", reason="wrong answers")
    (folder,) = store.glob("??/*")
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_problem(await step(client, "bot:1", "restore"), 409, "files_damaged")
    await publish(client, "other", make_adapter("b"))
    assert (await step(client, "bot:1", "restore")).status_code == 200
    assert weights.read_bytes() == content


async def test_what_an_earlier_release_quarantined_without_proof_is_restored_at_once(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    """All whose files agree with their digest; operators' own quarantines stay."""
    await publish_some(client, make_adapter, "bot", 4)
    damaged = (await client.get("/adapters/bot/versions/2")).json()["digest"]
    weights = store / damaged[:2] / damaged / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for number in (1, 2, 3):
        reason = {"reason": "CUDA error", "code": "adapter_load_failed"}
        await step(client, f"bot:{number}", "quarantine", **reason)
    await step(client, "bot:4", "quarantine", reason="wrong answers")
    code, out, _ = await run("adapter", "restore", "--all-unproven")
    assert code == 1, "one stays"
    outcomes = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert outcomes.keys() == {"bot:1", "bot:2", "bot:3"}
    assert "files_damaged" in outcomes["bot:2"]
    states = [await state(client, f"bot:{number}") for number in (1, 2, 3, 4)]
    assert states == ["ready", "quarantined", "ready", "quarantined"]
    events = (await client.get("/events", params={"adapter": "bot", "limit": 100})).json()["items"]
    restored = [event for event in events if event["kind"] == "version.restored"]
    assert {event["to_version"] for event in restored} == {1, 3}
    assert all("without proof" in event["reason"] for event in restored)
    for arguments in ((), ("bot:1", "--all-unproven")):
        code, _, err = await run("adapter", "restore", *arguments)
        assert (code, "--all-unproven" in err) == (2, True)


async def test_the_same_files_again_bring_a_purged_version_back(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    retired = await publish(client, "bot", make_adapter("again", seed=1))
    assert (retired.status_code, retired.json()["state"]) == (200, "retired")
    await step(client, "bot:2", "purge")
    back = await publish(client, "bot", make_adapter("and-again", seed=1))
    assert (back.status_code, back.json()["state"], back.json()["number"]) == (200, "ready", 2)
    assert back.json()["digest"] in stored(store)
    assert await resolved(client, "bot:2") == 2


async def test_what_an_engine_uses_is_not_purged(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    found = await service.catalog.resolve(parse_reference("bot:2"))
    await step(client, "bot:2", "retire")
    used = {found.version_id}

    async def is_used(version_id: int) -> bool:
        return version_id in used

    service.set_usage_check(is_used)
    assert_problem(await step(client, "bot:2", "purge"), 409, "version_in_use")
    used.clear()
    assert (await step(client, "bot:2", "purge")).status_code == 200


async def test_a_purge_that_is_cancelled_at_its_commit_keeps_files_and_row_in_step(
    client: httpx.AsyncClient,
    service: RegistryService,
    make_adapter: AdapterMaker,
    store: Path,
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    before = stored(store)
    task = asyncio.create_task(service.lifecycle.purge("bot", 2, actor="test"))
    sessions = service._database._sessions.kw["sync_session_class"]
    event.listen(sessions, "before_commit", lambda _: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        await task
    # Whether the commit was still sent is up to the driver. What counts is that they agree.
    kept = await state(client, "bot:2") == "retired"
    await sweep(service)
    assert (stored(store) == before) is kept
    assert not service.store.pending_digests()


async def test_what_a_purge_of_an_earlier_release_had_set_aside_is_put_back_if_it_is_needed(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    digest = (await client.get("/adapters/bot/versions/2")).json()["digest"]
    trash = store.parent / "trash"
    trash.mkdir()
    (store / digest[:2] / digest).rename(trash / digest)  # before the commit
    (trash / ("f" * 64)).mkdir()  # after it
    service.store.open()
    await sweep(service)
    assert digest in stored(store)
    assert "f" * 64 not in stored(store)
    assert not trash.exists()


async def test_what_a_purge_left_when_its_server_died_is_swept(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker, store: Path
) -> None:
    """Between its commit and the removal."""
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    digest = (await client.get("/adapters/bot/versions/2")).json()["digest"]
    reservation = service.store.removals.reserve(digest)
    assert reservation is not None
    assert (await step(client, "bot:2", "purge")).json()["freed_bytes"] == 0
    reservation.abandon()
    assert digest in stored(store)
    await sweep(service)
    assert digest not in stored(store)


async def test_each_step_leaves_one_event_and_repeating_it_none(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await client.patch("/adapters/bot/versions/2", json={"parent": "bot:1"})
    for what in ("deprecate", "deprecate", "restore", "restore", "retire", "retire", "purge"):
        response = await step(client, "bot:2", what, reason="the same")
        assert response.status_code == 200
        recorded = response.json()
        assert recorded.get("version", recorded)["parent"] == "bot:1"
    assert (await kinds(client, "bot"))[4:] == [
        "version.deprecated",
        "version.restored",
        "version.retired",
        "version.purged",
    ]


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("reference", "what", "body", "status", "code"),
    [
        ("nobody:1", "retire", {}, 404, "unknown_adapter"),
        ("bot:9", "retire", {}, 404, "unknown_version"),
        ("bot:0", "retire", {}, 422, "invalid_request"),
        ("Bot:1", "retire", {}, 400, "invalid_reference"),
        ("bot:1", "retire", {"reason": "x" * 1025}, 422, "invalid_request"),
        ("bot:1", "retire", {"reason": "\0"}, 422, "invalid_request"),
        ("bot:1", "retire", {"why": "x"}, 422, "invalid_request"),
        ("bot:1", "quarantine", {}, 422, "invalid_request"),
        ("bot:1", "quarantine", {"reason": "x", "code": "No Code"}, 422, "invalid_request"),
        ("bot:1", "purge", {}, 409, "version_aliased"),
        ("bot:2", "purge", {}, 409, "transition_refused"),
    ],
)
async def test_refused_steps(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    reference: str,
    what: str,
    body: dict[str, object],
    status: int,
    code: str,
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    assert_problem(await step(client, reference, what, **body), status, code)
