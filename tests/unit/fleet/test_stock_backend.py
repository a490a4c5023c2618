"""The backend over a stock server's routes keeps the port's promises; the server is a list here."""

import pytest

from engine.errors import EngineUnavailable
from engine.policy.decisions import Activate, Commit, Deactivate, Evict, Move
from engine.types import AdapterVersion, EvictionReason, VersionId
from fleet.messages import ForwardedRequest
from fleet.placement import Bound
from fleet.stock.backend import StockBackend
from fleet.stock.process import StockStarter
from fleet.stock.replicas import StockReplicas
from tests.support.cache.controller_harness import A, B, C
from tests.support.cache.fake_fleet import FACTS, FakeReplica, fake_fleet

REASON = EvictionReason.REQUESTED


class Listed:
    """Knows names, as `fleet.stock.client.StockVllm` asks for them."""

    url = "http://stock:1"

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.refuses: str | None = None
        self.paths: dict[str, str] = {}
        self.well = [True]

    async def is_well(self) -> bool:
        return self.well.pop(0) if len(self.well) > 1 else self.well[0]

    async def ours(self) -> list[str]:
        return [name for name in self.names if ":" in name]

    async def load(self, name: str, path: str) -> str | None:
        if self.refuses is None:
            self.names.append(name)
            self.paths[name] = path
        return self.refuses

    async def unload(self, name: str) -> str | None:
        if name not in self.names:
            return "it is not loaded"
        self.names.remove(name)
        return None


def made(server: Listed, slots: int = 2) -> StockBackend:
    return StockBackend(server, slots)  # type: ignore[arg-type]  # as far as it is asked


async def one(backend: StockBackend, move: Move) -> tuple[str | None, int | None]:
    (result,) = await backend.apply([move])
    return result.error, result.slot


async def come(backend: StockBackend, version: AdapterVersion) -> None:
    assert not (await backend.load(version)).certain
    assert await one(backend, Commit(version.id)) == (None, None)


async def test_it_is_loaded_by_its_version_s_name_and_counted_into_slots() -> None:
    server = Listed("base")
    backend = made(server)
    for version in (A, B, C):
        await come(backend, version)
    assert server.paths[A.engine_name] == A.path
    assert await one(backend, Activate(A.id)) == (None, 0)
    assert await one(backend, Activate(B.id)) == (None, 1)
    error, slot = await one(backend, Activate(C.id))
    assert (error, slot) == ("no slot is free", None)
    assert await one(backend, Deactivate(A.id, REASON)) == (None, None)
    assert await one(backend, Activate(C.id)) == (None, 0)
    state = await backend.engine_state()
    assert (set(state.gpu), set(state.host)) == ({B.id, C.id}, {A.id, B.id, C.id})


async def test_leaving_it_gives_its_slot_back() -> None:
    server = Listed("base")
    backend = made(server, slots=1)
    await come(backend, A)
    await come(backend, B)
    await one(backend, Activate(A.id))
    assert await one(backend, Evict(A.id, REASON, left_slot=True)) == (None, None)
    assert A.engine_name not in server.names
    assert await one(backend, Activate(B.id)) == (None, 0)


async def test_what_must_not_be_decided_fails_and_changes_nothing() -> None:
    backend = made(Listed("base"))
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


async def test_a_refusal_is_its_reason_and_takes_what_was_staged() -> None:
    server = Listed("base")
    server.refuses = "no such rank"
    backend = made(server)
    await backend.load(A)
    assert (await one(backend, Commit(A.id)))[0] == "no such rank"
    server.refuses = None
    assert (await one(backend, Commit(A.id)))[0] == "nothing is staged of it"


async def test_what_the_server_has_lost_is_not_in_the_truth() -> None:
    server = Listed("base")
    backend = made(server)
    await come(backend, A)
    await one(backend, Activate(A.id))
    server.names.clear()
    state = await backend.engine_state()
    assert (state.gpu, state.host) == ((), ())


async def test_a_server_that_answers_is_cleared_of_what_was_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fleet.stock.process._LOOK_SECONDS", 0.001)
    server = Listed("base", "theirs", "bot:3-0123abcd")
    server.well = [False, False, True]
    life = await StockStarter(server, 2).start()  # type: ignore[arg-type]
    assert server.names == ["base", "theirs"]
    assert not life.is_dead
    server.well = [True, False, True, False, False, False]
    assert "does not answer" in await life.death()
    assert life.is_dead


async def test_requests_go_where_their_adapter_is_and_never_to_who_is_away() -> None:
    async with fake_fleet(FakeReplica("one"), FakeReplica("two")) as fakes:
        replicas = StockReplicas(["one", "two"], FACTS, Bound())
        with pytest.raises(EngineUnavailable):
            replicas._best(ForwardedRequest({}, b"", A))
        assert set((await replicas.ask("facts")).values) == {"one", "two"}
        with pytest.raises(EngineUnavailable):
            await replicas.ask("snapshot")
        replicas.there = {each.name: each.replica for each in fakes.there}
        await fakes.of("two").controlled.use(A)
        best = replicas._best(ForwardedRequest({}, b"", A))
        assert best is fakes.of("two").replica
        other = replicas._best(ForwardedRequest({}, b"", A, avoid=frozenset({"two"})))
        assert other is fakes.of("one").replica
        await fakes.of("two").controlled.controller.on_engine_lost(EngineUnavailable("gone"))
        assert replicas._best(ForwardedRequest({}, b"", A)) is fakes.of("one").replica
        assert len((await replicas.ask("snapshot")).all()) == 2
        assert VersionId(1) == A.id
