"""The loader: verified files, retries on transient errors, a timeout."""

import asyncio
from collections.abc import Sequence

import pytest

from engine.cache.loader import Loader
from engine.errors import AdapterLoadFailed, EngineUnavailable
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.ports import Loaded
from engine.types import AdapterVersion, LoadFailure, VersionId
from tests.support.cache.controller_harness import A, B

PAUSES = (0.001, 0.001)


class Moody(FakeBackend):
    """Raises the given errors, one after the other; then it works."""

    def __init__(self, failures: Sequence[Exception]) -> None:
        super().__init__(slots=1, host_capacity=1)
        self.failures = list(failures)

    async def load(self, version: AdapterVersion) -> Loaded:
        if self.failures:
            self.loads.append(version.id)
            raise self.failures.pop(0)
        return await super().load(version)


class Slow(FakeBackend):
    async def load(self, version: AdapterVersion) -> Loaded:
        await asyncio.sleep(60)
        raise AssertionError("was waited for")


class Changed:
    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        raise AdapterLoadFailed(version.reference, "changed", LoadFailure.FILES)


def failed(failure: LoadFailure) -> AdapterLoadFailed:
    return AdapterLoadFailed(A.reference, "on purpose", failure)


@pytest.mark.parametrize("failure", [LoadFailure.IO, LoadFailure.MEMORY])
async def test_a_transient_error_is_retried(failure: LoadFailure) -> None:
    backend = Moody([failed(failure)] * 2)
    loaded = await Loader(backend, UncheckedFiles(), pauses=PAUSES).load(A)
    assert loaded.host_bytes == A.size_bytes
    assert len(backend.loads) == 3


async def test_retries_end() -> None:
    backend = Moody([failed(LoadFailure.IO)] * 9)
    with pytest.raises(AdapterLoadFailed) as error:
        await Loader(backend, UncheckedFiles(), pauses=PAUSES).load(A)
    assert error.value.retry_after_seconds is not None
    assert len(backend.loads) == 3


@pytest.mark.parametrize("failure", [LoadFailure.FILES, LoadFailure.ADAPTER, LoadFailure.ENGINE])
async def test_a_permanent_error_is_not_retried(failure: LoadFailure) -> None:
    backend = Moody([failed(failure)])
    with pytest.raises(AdapterLoadFailed):
        await Loader(backend, UncheckedFiles(), pauses=PAUSES).load(A)
    assert len(backend.loads) == 1


async def test_a_dead_engine_is_not_retried() -> None:
    backend = Moody([EngineUnavailable("gone")])
    with pytest.raises(EngineUnavailable):
        await Loader(backend, UncheckedFiles(), pauses=PAUSES).load(A)
    assert len(backend.loads) == 1


async def test_files_that_were_not_registered_are_not_read() -> None:
    backend = Moody([])
    with pytest.raises(AdapterLoadFailed, match="changed"):
        await Loader(backend, Changed(), pauses=PAUSES).load(A)
    assert backend.loads == []


async def test_a_load_that_hangs_times_out() -> None:
    backend = Slow(slots=1, host_capacity=1)
    with pytest.raises(AdapterLoadFailed, match=r"timed out after 0\.01 s") as error:
        await Loader(backend, UncheckedFiles(), pauses=PAUSES, timeout_seconds=0.01).load(A)
    assert error.value.failure is LoadFailure.TIMEOUT


async def test_a_load_that_takes_long_is_reported_once_and_no_other() -> None:
    reports: list[VersionId] = []
    loader = Loader(
        Slow(slots=1, host_capacity=1),
        UncheckedFiles(),
        pauses=PAUSES,
        timeout_seconds=0.1,
        slow_seconds=0.01,
    )
    with pytest.raises(AdapterLoadFailed):
        await loader.load(A, lambda: reports.append(A.id))
    assert reports == [A.id]
    loader = Loader(Moody([]), UncheckedFiles(), slow_seconds=0.01)
    await loader.load(B, lambda: reports.append(B.id))
    await asyncio.sleep(0.02)
    assert reports == [A.id]
