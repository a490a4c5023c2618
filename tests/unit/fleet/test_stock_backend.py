"""The backend over a stock server's routes fulfils the port's contract, against a fake server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.errors import AdapterLoadFailed, EngineUnavailable
from engine.fake_backend import UncheckedFiles
from engine.operations.quarantine import Quarantine
from engine.policy.decisions import Activate, Commit, Deactivate, Evict, Move
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, EvictionReason, VersionId
from fleet.messages import ForwardedRequest
from fleet.placement import Bound
from fleet.stock.backend import StockBackend
from fleet.stock.base_check import BaseCheck
from fleet.stock.client import StockVllm
from fleet.stock.process import StockStarter
from fleet.stock.replicas import StockReplicas
from registry.inspection.base_identity import identity_of
from tests.support.cache.controller_harness import A, B, C, adapter
from tests.support.cache.fake_fleet import FACTS, FakeReplica, fake_fleet
from tests.support.servers.scripted_http import answering

OURS = BaseCheck(identity_of("org/Model", None, revision="1"))
REASON = EvictionReason.REQUESTED


class FakeServer:
    """A list of loaded names behind the interface of `fleet.stock.client.StockVllm`."""

    url = "http://stock:1"

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.refuses: str | None = None
        self.paths: dict[str, str] = {}
        self.well = [True]
        self.root = "org/Model"
        self.any_name = [False]
        self.unanswered: set[str] = set()  # names of which it does what is asked, and says nothing
        self.listing: Callable[[], Awaitable[None]] | None = None

    async def takes_any_name(self) -> bool:
        return self.any_name.pop(0) if len(self.any_name) > 1 else self.any_name[0]

    async def is_healthy(self) -> bool:
        return self.well.pop(0) if len(self.well) > 1 else self.well[0]

    async def cards(self) -> list[dict[str, str]]:
        return [{"id": "base", "root": self.root}, {"id": "theirs", "root": "x", "parent": "base"}]

    async def loaded_adapters(self) -> list[str]:
        listed = [name for name in self.names if ":" in name]
        if self.listing is not None:
            await self.listing()
        return listed

    async def load(self, name: str, path: str) -> str | None:
        if name in self.names:
            return "it has already been loaded"
        if self.refuses is None:
            self.names.append(name)
            self.paths[name] = path
        self._answer(name)
        return self.refuses

    async def unload(self, name: str) -> str | None:
        await asyncio.sleep(0)  # as every request
        if name not in self.names:
            return "it is not loaded"
        self.names.remove(name)
        self._answer(name)
        return None

    def _answer(self, name: str) -> None:
        if name in self.unanswered:
            raise EngineUnavailable("no answer in time")


async def test_a_server_that_refuses_a_load_condemns_nothing() -> None:
    """Whatever it says: a smaller rank, its device, its disk. The next attempt may succeed."""
    examined: list[VersionId] = []

    async def condemn(version: AdapterVersion) -> bool:
        examined.append(version.id)
        return True

    server = FakeServer()
    policy = CachePolicy(slots=2, host_capacity=4)
    backend = make_backend(server)
    loader = Loader(backend, UncheckedFiles(), pauses=())
    clock = [0.0]
    controller = CacheController(
        policy, backend, loader, Quarantine(condemn), clock=lambda: clock[0]
    )
    server.refuses = "LoRA rank 16 is greater than max_lora_rank 8."
    for _ in range(2):
        with pytest.raises(AdapterLoadFailed, match="max_lora_rank 8") as refused:
            async with controller.lease(A):
                pass
        assert refused.value.retry_after_seconds == 1
    server.refuses, clock[0] = None, 1.0
    async with controller.lease(A):
        pass
    assert examined == []


def make_backend(server: FakeServer, slots: int = 2) -> StockBackend:
    return StockBackend(server, slots)  # type: ignore[arg-type]  # as far as it is used


async def one(backend: StockBackend, move: Move) -> tuple[str | None, int | None]:
    (result,) = await backend.apply([move])
    return result.error, result.slot


async def load(backend: StockBackend, version: AdapterVersion) -> None:
    loaded = await backend.load(version)
    assert not loaded.guaranteed
    assert not loaded.fell_back, "there is no other path: doctor and alerts would warn of each"
    assert await one(backend, Commit(version.id)) == (None, None)


async def test_a_version_is_loaded_under_its_engine_name_and_counted_into_slots() -> None:
    server = FakeServer("base")
    backend = make_backend(server)
    for version in (A, B, C):
        await load(backend, version)
    assert server.paths[A.engine_name] == A.path
    assert await one(backend, Activate(A.id)) == (None, 0)
    assert await one(backend, Activate(B.id)) == (None, 1)
    error, slot = await one(backend, Activate(C.id))
    assert (error, slot) == ("no slot is free", None)
    assert await one(backend, Deactivate(A.id, REASON)) == (None, None)
    assert await one(backend, Activate(C.id)) == (None, 0)
    state = await backend.engine_state()
    assert (set(state.gpu), set(state.host)) == ({B.id, C.id}, {A.id, B.id, C.id})


async def test_an_eviction_frees_the_slot() -> None:
    server = FakeServer("base")
    backend = make_backend(server, slots=1)
    await load(backend, A)
    await load(backend, B)
    await one(backend, Activate(A.id))
    assert await one(backend, Evict(A.id, REASON, left_slot=True)) == (None, None)
    assert A.engine_name not in server.names
    assert await one(backend, Activate(B.id)) == (None, 0)


async def test_a_batch_waits_for_those_before_it() -> None:
    """The first one waits for the server: the slot that it frees is given away in the second."""
    backend = make_backend(FakeServer("base"), slots=1)
    for version in (A, B, C):
        await load(backend, version)
    assert await one(backend, Activate(A.id)) == (None, 0)
    unloads = [Evict(C.id, REASON, left_slot=False), Evict(A.id, REASON, left_slot=True)]
    first = asyncio.create_task(backend.apply(unloads))
    second = asyncio.create_task(backend.apply([Activate(B.id)]))
    results = [*await first, *await second]
    assert [result.error for result in results] == [None] * 3


async def test_an_invalid_decision_fails_and_changes_nothing() -> None:
    backend = make_backend(FakeServer("base"))
    for move in (
        Commit(A.id),
        Activate(A.id),
        Deactivate(A.id, REASON),
        Evict(A.id, REASON, left_slot=False),
    ):
        error, _ = await one(backend, move)
        assert error
    state = await backend.engine_state()
    assert (state.gpu, state.host) == ((), ())


async def test_a_refused_load_reports_the_reason_and_is_no_longer_staged() -> None:
    server = FakeServer("base")
    server.refuses = "no such rank"
    backend = make_backend(server)
    await backend.load(A)
    assert (await one(backend, Commit(A.id)))[0] == "no such rank"
    server.refuses = None
    assert (await one(backend, Commit(A.id)))[0] == "nothing is staged of it"


async def test_an_adapter_that_the_server_lost_is_not_in_the_engine_state() -> None:
    server = FakeServer("base")
    backend = make_backend(server)
    await load(backend, A)
    await one(backend, Activate(A.id))
    server.names.clear()
    state = await backend.engine_state()
    assert (state.gpu, state.host) == ((), ())


async def test_what_the_server_has_lost_can_be_loaded_again_and_its_slot_is_free() -> None:
    """Else the slot is gone until the server starts again, and so is the adapter."""
    server = FakeServer("base")
    backend = make_backend(server, slots=1)
    await load(backend, A)
    await load(backend, B)
    await one(backend, Activate(A.id))
    server.names.remove(A.engine_name)
    assert (await backend.engine_state()).host == (B.id,)
    assert await one(backend, Activate(B.id)) == (None, 0)
    await one(backend, Deactivate(B.id, REASON))
    await load(backend, A)
    assert await one(backend, Activate(A.id)) == (None, 0)


async def test_what_somebody_else_has_unloaded_is_evicted() -> None:
    server = FakeServer("base")
    backend = make_backend(server, slots=1)
    for version in (A, B):
        await load(backend, version)
    await one(backend, Activate(A.id))
    server.names.remove(A.engine_name)
    assert await one(backend, Evict(A.id, REASON, left_slot=True)) == (None, None)
    assert await one(backend, Activate(B.id)) == (None, 0)


async def test_what_is_loaded_again_while_the_server_is_asked_is_not_forgotten() -> None:
    server = FakeServer("base")
    backend = make_backend(server)
    await load(backend, A)

    async def evict_and_load() -> None:
        server.listing = None
        await one(backend, Evict(A.id, REASON, left_slot=False))
        assert await server.loaded_adapters() == []
        await load(backend, A)

    server.names.remove(A.engine_name)  # as the list says that is asked for now
    server.listing = evict_and_load
    await backend.engine_state()
    assert (await backend.engine_state()).host == (A.id,)


async def test_a_move_without_an_answer_keeps_no_other_from_being_done() -> None:
    server = FakeServer("base")
    backend = make_backend(server, slots=1)
    for version in (A, B):
        await load(backend, version)
    await one(backend, Activate(A.id))
    await backend.load(C)
    server.unanswered = {C.engine_name}
    moves: list[Move] = [Commit(C.id), Deactivate(A.id, REASON), Activate(B.id)]
    committed, *others = await backend.apply(moves)
    assert "no answer in time" in str(committed.error)
    assert [(each.error, each.slot) for each in others] == [(None, None), (None, 0)]


async def test_a_load_whose_answer_did_not_come_is_no_obstacle_to_the_next() -> None:
    """vLLM has loaded it, and refuses to do so again."""
    server = FakeServer("base")
    backend = make_backend(server)
    server.unanswered = {A.engine_name}
    await backend.load(A)
    assert "no answer" in str((await one(backend, Commit(A.id)))[0])
    assert A.engine_name in server.names
    server.unanswered = set()
    await load(backend, A)
    assert await one(backend, Activate(A.id)) == (None, 0)


async def test_leftover_adapters_are_unloaded_from_a_server_that_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fleet.stock.process._CHECK_SECONDS", 0.001)
    server = FakeServer("base", "theirs", "bot:3-0123abcd")
    server.well = [False, False, True]
    process = await StockStarter(server, 2, OURS).start()  # type: ignore[arg-type]
    assert server.names == ["base", "theirs"]
    assert not process.is_dead
    server.well = [True, False, True, False, False, False]
    assert "does not answer" in await process.wait_for_death()
    assert process.is_dead


@pytest.mark.parametrize(
    ("root", "fits"),
    [
        ("org/Model", True),
        ("/on/its/machine/model", True),
        ("org/Model-Instruct", False),
        ("folder/model", False),  # is here, with other weights
        (f"/{'x' * 300}/Model", True),  # nor can it be looked for here
    ],
)
async def test_a_server_of_another_base_model_gets_no_adapter(
    root: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "model").mkdir(parents=True)
    (tmp_path / "folder" / "model" / "model.safetensors").write_bytes(b"other weights")
    server: Any = FakeServer()
    server.root = root
    declared = BaseCheck(OURS.identity, is_declared=True)
    await declared.check(server)
    if fits:
        await OURS.check(server)
    else:
        with pytest.raises(EngineUnavailable, match=f"serves the base model {root}, not org/Model"):
            await OURS.check(server)


async def test_a_server_that_answers_for_any_name_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its base model would answer for an adapter that somebody else has unloaded there."""
    monkeypatch.setattr("fleet.stock.process._CHECK_SECONDS", 0.001)
    server: Any = FakeServer()
    server.any_name = [True, True, False]
    async with asyncio.timeout(30):
        await StockStarter(server, 2, OURS).start()
    (record,) = caplog.records
    assert "start it without VLLM_SKIP_MODEL_NAME_VALIDATION" in record.message


async def test_a_server_with_another_base_model_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fleet.stock.process._CHECK_SECONDS", 0.001)
    caplog.set_level(logging.WARNING, "fleet.stock.process")
    server: Any = FakeServer()
    server.root = "org/Other"
    starting = asyncio.create_task(StockStarter(server, 2, OURS).start())
    async with asyncio.timeout(30):
        while not caplog.records:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # it has looked again
    assert not starting.done()
    assert [record.message for record in caplog.records if "org/Other" in record.message] == [
        "the engine does not answer: http://stock:1 serves the base model org/Other, not "
        "org/Model@1: it gets none of its "
        "adapters. If it is the same one, declare it with --base-id"
    ], "once"
    server.root = "org/Model"
    async with asyncio.timeout(30):
        await starting


FOREIGN: tuple[object, ...] = (b"<html>", {}, [], {"data": None}, {"data": [1]}, {"data": [{}]})


@pytest.mark.parametrize("answer", FOREIGN)
async def test_a_server_that_is_no_vllm_is_waited_for(answer: object) -> None:
    """Such as the page of a proxy. It ended the front, and with it all other servers' answers."""
    base = {"id": "base", "root": "org/Model", "max_model_len": 64}
    with answering() as web:
        web.will_say(200, {})
        web.will_say(200, answer)
        web.will_say(200, {})
        web.will_say(200, {"data": [base]})
        web.will_say(404, {})  # for the name of no model
        web.will_say(200, {"data": [base]})
        server = StockVllm(web.url, None, load_seconds=5, silent_seconds=5)
        async with asyncio.timeout(30):
            await StockStarter(server, 2, OURS).start()
        for content in (answer, answer, {"data": []}):
            web.will_say(200, content)
        for ask in (server.base_model, partial(server.prompt_log_probabilities, "base", [1, 2])):
            with pytest.raises(EngineUnavailable, match="does not answer as vLLM does"):
                await ask()
        with pytest.raises(EngineUnavailable, match="does not answer as vLLM does"):
            await server.base_model()
        await server.close()


async def test_requests_go_where_their_adapter_is_and_never_to_a_replica_that_is_down() -> None:
    async with fake_fleet(FakeReplica("one"), FakeReplica("two")) as fakes:
        replicas = StockReplicas({"one": FACTS, "two": FACTS}, Bound())
        with pytest.raises(EngineUnavailable):
            replicas._best(ForwardedRequest({}, b"", A))
        assert set((await replicas.call("facts")).values) == {"one", "two"}
        with pytest.raises(EngineUnavailable):
            await replicas.call("snapshot")
        replicas.connected = {each.name: each.replica for each in fakes.there}
        await fakes.of("two").controlled.use(A)
        best = replicas._best(ForwardedRequest({}, b"", A))
        assert best is fakes.of("two").replica
        other = replicas._best(ForwardedRequest({}, b"", A, avoid=frozenset({"two"})))
        assert other is fakes.of("one").replica
        await fakes.of("two").controlled.controller.on_engine_lost(EngineUnavailable("gone"))
        assert replicas._best(ForwardedRequest({}, b"", A)) is fakes.of("one").replica
        assert len((await replicas.call("snapshot")).all()) == 2
        assert VersionId(1) == A.id


async def test_requests_go_to_the_least_busy_server_that_is_up_and_has_room_for_the_rank() -> None:
    small, large = FakeReplica("small", max_rank=8), FakeReplica("large", max_rank=64)
    async with fake_fleet(small, large) as fakes:
        replicas = StockReplicas({"small": FACTS, "large": FACTS}, Bound())
        replicas.connected = {each.name: each.replica for each in fakes.there}
        base = ForwardedRequest({}, b"")
        names = []
        async with replicas.forward(base), replicas.forward(base):
            names = sorted(name for name, count in replicas._running.items() if count)
        assert names == ["large", "small"], "one each"
        assert set(replicas._running.values()) == {0}, "and none once they have ended"
        for number in range(1, 9):
            version = replace(adapter(number), rank=64)
            assert replicas._best(ForwardedRequest({}, b"", version)) is large.replica
        await small.controlled.controller.on_engine_lost(EngineUnavailable("gone"))
        for number in range(1, 9):
            request = ForwardedRequest({}, b"", adapter(number))
            assert replicas._best(request) is large.replica
