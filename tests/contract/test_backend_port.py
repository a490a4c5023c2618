"""Backend port: what the controller relies on, checked on both implementations.

The unit tests of the controller believe what the fake says. They may because it passes here what
the real engine passes: one suite, run with each.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from demo.tasks import TASKS
from engine.errors import AdapterLoadFailed
from engine.fake_backend import FakeBackend
from engine.policy.decisions import Activate, Commit, Deactivate, Evict, Move
from engine.ports import Backend, EngineState, MoveResult
from engine.resolver import RegistryResolver
from engine.types import AdapterVersion, EvictionReason, VersionId

SLOTS, HOST_CAPACITY = 2, 4  # of the demo profile, which the live server runs with
RANDOM_MOVES = 150

Answer = TypeVar("Answer")


@dataclass
class Subject:
    """A backend with empty tiers and the adapters that it can load."""

    backend: Backend
    versions: Sequence[AdapterVersion]
    gone: AdapterVersion  # its files are missing
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def load(self, version: AdapterVersion) -> bool:
        guaranteed: bool = self.run(self.backend.load(version))
        return guaranteed

    def apply(self, *moves: Move) -> list[bool]:
        """For each move, whether it worked."""
        results = self.run(self.backend.apply(moves))
        assert all(result.seconds >= 0 for result in results)
        return [result.error is None for result in results]

    def bring_in(self, version: AdapterVersion, *, to_slot: bool = False) -> None:
        self.load(version)
        moves = (Commit(version.id), Activate(version.id)) if to_slot else (Commit(version.id),)
        assert all(self.apply(*moves))

    def tiers(self) -> tuple[set[VersionId], set[VersionId]]:
        """Who is in a slot, and who in the host tier."""
        state = self.run(self.backend.engine_state())
        assert set(state.size_bytes) == set(state.host)
        assert state.in_step_loads == 0
        return set(state.gpu), set(state.host)


@pytest.fixture
def fake() -> Iterator[Subject]:
    versions = [
        AdapterVersion(VersionId(n), name, 1, f"{n:064x}", f"/nowhere/{name}", 8, 1000)
        for n, name in enumerate(sorted(TASKS), start=1)
    ]
    backend = FakeBackend(slots=SLOTS, host_capacity=HOST_CAPACITY)
    gone = _without_files(versions[0])
    backend.broken.add(gone.id)
    with asyncio.Runner() as runner:
        yield Subject(backend, versions, gone, runner.run)


@pytest.fixture
def real(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    # what it finds here without having asked for it, it would put right in the middle of a test
    monkeypatch.setattr(
        server.server.controller, "reconcile", server.server.supervisor.engine_state
    )
    resolver = RegistryResolver(server.server.service.catalog)
    versions = [server.run(resolver.resolve(name)) for name in sorted(TASKS)]
    gone = _without_files(versions[0])
    subject = Subject(server.server.supervisor, versions, gone, server.run)
    yield subject
    for version in versions:  # the controller believes that all is empty, so leave nothing staged
        subject.apply(_evict(version.id), Commit(version.id), _evict(version.id))
    assert subject.tiers() == (set(), set())


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def subject(request: pytest.FixtureRequest) -> Subject:
    chosen: Subject = request.getfixturevalue(request.param)
    return chosen


def _without_files(version: AdapterVersion) -> AdapterVersion:
    return replace(version, id=VersionId(1_000_000), path="/nowhere/gone")


def _deactivate(version: VersionId) -> Deactivate:
    return Deactivate(version, EvictionReason.CAPACITY)


def _evict(version: VersionId) -> Evict:
    return Evict(version, EvictionReason.CAPACITY, left_slot=False)


# ---- what each move does -----------------------------------------------------------------


def test_a_load_alone_is_in_no_tier(subject: Subject) -> None:
    subject.load(subject.versions[0])
    assert subject.tiers() == (set(), set())


def test_the_way_in_and_the_way_out(subject: Subject) -> None:
    version = subject.versions[0]
    subject.load(version)
    assert subject.apply(Commit(version.id)) == [True]
    assert subject.tiers() == (set(), {version.id})
    assert subject.apply(Activate(version.id)) == [True]
    assert subject.tiers() == ({version.id}, {version.id})
    assert subject.apply(_deactivate(version.id)) == [True]
    assert subject.tiers() == (set(), {version.id})
    assert subject.apply(_evict(version.id)) == [True]
    assert subject.tiers() == (set(), set())


def test_evicting_an_adapter_in_a_slot_frees_both_places(subject: Subject) -> None:
    version = subject.versions[0]
    subject.bring_in(version, to_slot=True)
    assert subject.apply(_evict(version.id)) == [True]
    assert subject.tiers() == (set(), set())


def test_moves_are_carried_out_in_order(subject: Subject) -> None:
    a, b, c = (version.id for version in subject.versions[:3])
    for version in subject.versions[:3]:
        subject.load(version)
    full_slots = (Commit(a), Activate(a), Commit(b), Activate(b))
    assert subject.apply(*full_slots, Commit(c), _deactivate(a), Activate(c)) == [True] * 7
    assert subject.tiers() == ({b, c}, {a, b, c})


def test_the_moves_of_what_peft_saved_are_certain(subject: Subject) -> None:
    assert all(subject.load(version) for version in subject.versions[:2])


def test_a_call_after_moves_runs_after_them(subject: Subject) -> None:
    """A request may follow its moves without waiting for their results."""
    version = subject.versions[0]
    subject.load(version)

    async def ask_after_one_turn() -> EngineState:
        moves = (Commit(version.id), Activate(version.id))
        moving = asyncio.create_task(subject.backend.apply(moves))
        await asyncio.sleep(0)
        assert not moving.done(), "it has only been sent"
        state = await subject.backend.engine_state()
        await moving
        return state

    assert subject.run(ask_after_one_turn()).gpu == (version.id,)


def test_an_adapter_can_be_loaded_again_after_its_eviction(subject: Subject) -> None:
    version = subject.versions[0]
    for _ in range(2):
        subject.bring_in(version, to_slot=True)
        assert subject.apply(_evict(version.id)) == [True]
    assert subject.tiers() == (set(), set())


def test_an_adapter_can_be_loaded_while_its_old_copy_is_leaving(subject: Subject) -> None:
    """The load begins first: it must not lean on a copy that is about to go."""
    version = subject.versions[0]
    subject.bring_in(version, to_slot=True)
    subject.load(version)
    assert subject.apply(_evict(version.id), Commit(version.id)) == [True, True]
    assert subject.tiers() == (set(), {version.id})


def test_a_load_may_overtake_the_moves_that_were_decided_before_it(subject: Subject) -> None:
    version = subject.versions[0]

    async def in_and_out(times: int) -> list[MoveResult]:
        results: list[MoveResult] = []
        for _ in range(times):
            await subject.backend.load(version)
            moves = (Commit(version.id), Activate(version.id), _evict(version.id))
            moving = asyncio.create_task(subject.backend.apply(moves))
            await asyncio.sleep(0)  # it has been sent
            await subject.backend.load(version)
            results += await moving
            results += await subject.backend.apply((Commit(version.id), _evict(version.id)))
        return results

    assert all(result.error is None for result in subject.run(in_and_out(20)))
    assert subject.tiers() == (set(), set())


# ---- what is refused ---------------------------------------------------------------------


def test_a_failed_move_changes_nothing_and_the_next_is_still_tried(subject: Subject) -> None:
    here, absent = subject.versions[0], subject.versions[1].id
    subject.bring_in(here)
    impossible = (Activate(absent), Commit(absent), _deactivate(here.id), _evict(absent))
    assert subject.apply(*impossible, Activate(here.id)) == [False] * 4 + [True]
    assert subject.tiers() == ({here.id}, {here.id})


def test_no_slot_is_taken_that_was_not_given_up(subject: Subject) -> None:
    for version in subject.versions[:3]:
        subject.bring_in(version)
    a, b, c = (version.id for version in subject.versions[:3])
    assert subject.apply(Activate(a), Activate(b), Activate(c)) == [True, True, False]
    assert subject.tiers() == ({a, b}, {a, b, c})


def test_a_full_host_tier_takes_no_more(subject: Subject) -> None:
    for version in subject.versions[:HOST_CAPACITY]:
        subject.bring_in(version)
    resident = {version.id for version in subject.versions[:HOST_CAPACITY]}
    one_more = subject.versions[HOST_CAPACITY]
    subject.load(one_more)
    assert subject.apply(Commit(one_more.id)) == [False]
    assert subject.tiers() == (set(), resident)


def test_a_commit_that_failed_leaves_nothing_staged(subject: Subject) -> None:
    for version in subject.versions[: HOST_CAPACITY + 1]:
        subject.load(version)
    ids = [version.id for version in subject.versions[: HOST_CAPACITY + 1]]
    assert subject.apply(*map(Commit, ids)) == [True] * HOST_CAPACITY + [False]
    assert subject.apply(_evict(ids[0]), Commit(ids[-1])) == [True, False]


def test_nothing_is_loaded_twice(subject: Subject) -> None:
    version = subject.versions[0]
    subject.bring_in(version, to_slot=True)
    subject.load(version)
    assert subject.apply(Commit(version.id), Activate(version.id)) == [False, False]
    assert subject.tiers() == ({version.id}, {version.id})


def test_missing_files_fail_the_load_and_stage_nothing(subject: Subject) -> None:
    with pytest.raises(AdapterLoadFailed) as failure:
        subject.load(subject.gone)
    assert subject.gone.reference in failure.value.detail
    assert subject.apply(Commit(subject.gone.id)) == [False]
    assert subject.tiers() == (set(), set())


# ---- any sequence ------------------------------------------------------------------------


class Expected:
    """What a backend must answer, kept with sets."""

    def __init__(self) -> None:
        self.staged: set[VersionId] = set()
        self.host: set[VersionId] = set()
        self.gpu: set[VersionId] = set()

    def apply(self, move: Move) -> bool:
        version = move.version
        match move:
            case Commit():
                room = len(self.host) < HOST_CAPACITY
                works = room and version in self.staged and version not in self.host
                self.staged.discard(version)
                self.host |= {version} if works else set()
            case Activate():
                room = len(self.gpu) < SLOTS
                works = room and version in self.host and version not in self.gpu
                self.gpu |= {version} if works else set()
            case Deactivate():
                works = version in self.gpu
                self.gpu.discard(version)
            case Evict():
                works = version in self.host
                self.gpu.discard(version)
                self.host.discard(version)
        return works


def _random_move(chance: random.Random, version: VersionId) -> Move:
    makes: list[Callable[[VersionId], Move]] = [Commit, Activate, Activate, _deactivate, _evict]
    return chance.choice(makes)(version)


@pytest.mark.parametrize("seed", range(3))
def test_it_holds_what_a_plain_model_holds_after_any_sequence(subject: Subject, seed: int) -> None:
    chance = random.Random(seed)
    expected = Expected()
    done = 0
    while done < RANDOM_MOVES:
        for version in chance.sample(subject.versions, k=chance.randint(0, 2)):
            subject.load(version)
            expected.staged.add(version.id)
        moves = [
            _random_move(chance, chance.choice(subject.versions).id)
            for _ in range(chance.randint(1, 6))
        ]
        assert subject.apply(*moves) == [expected.apply(move) for move in moves], moves
        assert subject.tiers() == (expected.gpu, expected.host)
        done += len(moves)
