"""Revocations: whoever holds an adapter that is forced out ends, and whoever gets it meanwhile."""

import asyncio
import gc

from engine.cache.revocations import Revocations
from engine.cache.waiters import Waiters
from engine.errors import EngineUnavailable
from engine.types import VersionId

VERSION, OTHER = VersionId(1), VersionId(2)


async def test_a_lease_that_begins_while_its_adapter_is_forced_out_ends() -> None:
    """It was granted before, and its task has not run since."""
    revocations, ended = Revocations(), list[str]()
    until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    revocations.add(VERSION, lambda: ended.append("before"))
    revocations.revoke(VERSION, until)
    revocations.add(VERSION, lambda: ended.append("meanwhile"))
    revocations.add(OTHER, lambda: ended.append("other"))
    assert ended == ["before", "meanwhile"]
    until.set_result(None)
    await asyncio.sleep(0)
    revocations.add(VERSION, lambda: ended.append("after"))
    assert ended == ["before", "meanwhile"]


async def test_what_fails_for_nobody_is_not_reported_by_asyncio() -> None:
    """All who waited for it may have gone."""
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    waiters = Waiters()
    waiters.wait_for(VERSION)
    waiters.fail(VERSION, EngineUnavailable("it ended"))
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []
    assert waiters.versions() == []
