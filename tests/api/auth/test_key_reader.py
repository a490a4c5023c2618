"""Keys that nobody was given: however many come, the database is asked a bounded amount."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.key_reader import BATCH, KeyReader
from registry.auth.key_secret import new_key
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, InvalidKey

pytestmark = pytest.mark.both_databases


class Counted:
    """A database that counts its sessions, and those at the same time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sessions = self.now = self.most = 0
        self.down = False

    @asynccontextmanager
    async def read_session(self) -> AsyncIterator[AsyncSession]:
        self.sessions += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.down:
                raise DatabaseUnavailable("on purpose")
            async with self._database.read_session() as session:
                yield session
        finally:
            self.now -= 1

    @asynccontextmanager
    async def transaction(self, *, for_catalog: bool) -> AsyncIterator[AsyncSession]:
        if self.down:
            raise DatabaseUnavailable("on purpose")
        async with self._database.transaction(for_catalog=for_catalog) as session:
            yield session


def strange_keys(count: int) -> list[str]:
    return [new_key()[0] for _ in range(count)]


async def refused(keys: KeyService, text: str) -> bool:
    with pytest.raises(InvalidKey):
        await keys.authenticate(text)
    return True


async def test_a_thousand_strange_keys_are_a_few_queries_one_at_a_time(database: Database) -> None:
    keys = KeyService(database)
    good, _ = await keys.create("app", [Scope.INFER], actor="test")
    counted = Counted(database)
    keys._reader = KeyReader(counted)  # type: ignore[arg-type]  # the used part
    asked = [refused(keys, text) for text in strange_keys(1000)]
    strange = asyncio.gather(*asked)
    assert (await keys.authenticate(good)).name == "app"
    await strange
    assert counted.most == 1
    assert counted.sessions <= 1 + 1 + 1000 // BATCH + 1


async def test_one_key_is_read_once_for_all_who_ask(database: Database) -> None:
    keys = KeyService(database)
    good, _ = await keys.create("app", [Scope.INFER], actor="test")
    counted = Counted(database)
    keys._reader = KeyReader(counted)  # type: ignore[arg-type]  # the used part
    callers = await asyncio.gather(*(keys.authenticate(good) for _ in range(50)))
    assert {caller.name for caller in callers} == {"app"}
    assert counted.sessions == 1
    (strange,) = strange_keys(1)
    for _ in range(3):
        await refused(keys, strange)
    assert counted.sessions == 2, "that there is no such key is remembered too"


async def test_more_than_can_wait_are_refused_and_an_outage_reaches_all_who_wait(
    database: Database,
) -> None:
    counted = Counted(database)
    reader = KeyReader(counted, max_waiting=2)  # type: ignore[arg-type]  # the used part
    counted.down = True
    reads = [reader.read(name, is_known=False) for name in ("a", "b", "c")]
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [str(error) for error in results] == [
        "on purpose",
        "on purpose",
        "too many keys are being looked up",
    ]
    counted.down = False
    assert await reader.read("a", is_known=False) is None


async def test_keys_that_were_good_before_are_read_before_strange_ones(
    database: Database,
) -> None:
    counted = Counted(database)
    reader = KeyReader(counted)  # type: ignore[arg-type]  # the used part
    async with asyncio.TaskGroup() as tasks:
        for n in range(2 * BATCH):
            tasks.create_task(reader.read(f"strange {n}", is_known=False))
        await tasks.create_task(reader.read("known", is_known=True))
        assert counted.sessions <= 2, "the next batch may have begun"
    assert counted.sessions == 3


async def test_one_who_leaves_takes_the_answer_from_no_other(database: Database) -> None:
    keys = KeyService(database)
    good, key = await keys.create("app", [Scope.INFER], actor="test")
    leaving, staying = (asyncio.create_task(keys.authenticate(good)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).name == key.name
    assert leaving.cancelled()


async def test_a_known_key_is_good_through_an_outage_and_an_unknown_one_waits_for_its_end(
    database: Database,
) -> None:
    keys = KeyService(database)
    known, _ = await keys.create("app", [Scope.INFER], actor="test")
    other, _ = await keys.create("other", [Scope.INFER], actor="test")
    counted = Counted(database)
    keys._reader = KeyReader(counted)  # type: ignore[arg-type]  # the used part
    await keys.authenticate(known)
    counted.down = True
    keys._fresh.clear()  # a second later
    assert (await keys.authenticate(known)).name == "app"
    assert counted.sessions == 2, "it looked, in vain"
    with pytest.raises(DatabaseUnavailable):
        await keys.authenticate(other)
    keys._fresh.clear()
    keys._known_good.clear()  # ten minutes later
    with pytest.raises(DatabaseUnavailable):
        await keys.authenticate(known)
    counted.down = False
    assert (await keys.authenticate(other)).name == "other"


async def test_a_grant_that_was_taken_back_is_not_remembered_for_an_outage(
    database: Database,
) -> None:
    counted = Counted(database)
    keys = KeyService(counted)  # type: ignore[arg-type]  # the used part
    key, _ = await keys.create("app", [Scope.INFER], actor="test")
    await keys.authenticate(key)
    counted.down = True
    assert (await keys.authenticate(key)).name == "app"
    keys.forget_grants()
    with pytest.raises(DatabaseUnavailable):
        await keys.authenticate(key)


async def test_a_key_that_was_revoked_here_is_not_good_through_an_outage(
    database: Database,
) -> None:
    counted = Counted(database)
    keys = KeyService(counted)  # type: ignore[arg-type]  # the used part
    key, _ = await keys.create("app", [Scope.INFER], actor="test")
    await keys.authenticate(key)
    await keys.revoke("app", actor="test")
    counted.down = True
    with pytest.raises(DatabaseUnavailable):
        await keys.authenticate(key)


async def test_uses_that_an_outage_kept_from_being_saved_are_saved_after_it(
    database: Database,
) -> None:
    counted = Counted(database)
    keys = KeyService(counted)  # type: ignore[arg-type]  # the used part
    good, _ = await keys.create("app", [Scope.INFER], actor="test")
    other, _ = await keys.create("other", [Scope.INFER], actor="test")
    await keys.authenticate(good)
    counted.down = True
    with pytest.raises(DatabaseUnavailable):
        await keys.save_last_used()
    counted.down = False
    await keys.authenticate(other)
    await keys.save_last_used()
    before, after = [(await keys.key(name)).last_used_at for name in ("app", "other")]
    assert before is not None
    assert after is not None
    assert before <= after, "each with the time of its own use"


async def test_strange_keys_push_no_good_one_out(database: Database) -> None:
    keys = KeyService(database)
    good, _ = await keys.create("app", [Scope.INFER], actor="test")
    await keys.authenticate(good)
    for number in range(10_001):
        keys._unknown[str(number)] = True
    counted = Counted(database)
    keys._reader = KeyReader(counted)  # type: ignore[arg-type]  # the used part
    await keys.authenticate(good)
    assert counted.sessions == 0


async def test_an_entry_that_expires_between_two_looks_is_no_error(database: Database) -> None:
    """By a timer that runs on with every look at it."""
    keys = KeyService(database)
    good, _ = await keys.create("app", [Scope.INFER], actor="test")
    for step in (0.0, 0.3, 0.5, 0.9):
        at = [0.0]

        def timer(at: list[float] = at, step: float = step) -> float:
            at[0] += step
            return at[0]

        for name in ("_fresh", "_unknown", "_known_good"):
            kind = type(getattr(keys, name))
            setattr(keys, name, kind(100, 1.0, timer=timer))
        for _ in range(10):
            assert (await keys.authenticate(good)).name == "app"
