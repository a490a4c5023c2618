"""The lease context: its stages in order, and their release in reverse, however it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.cache.lease import NULL_LISTENER, LeaseContext, LeaseListener, LeaseRequest
from engine.errors import EngineError, QueueFull
from engine.events import Refused
from engine.types import AdapterVersion, CacheOutcome, Lease
from tests.support.cache.controller_harness import Recorder, adapter

A = adapter(1)
FULL = QueueFull(1, 1)


class Stages:
    """A queue before the stage that grants; `log` says what they did."""

    def __init__(self, *, refuses: EngineError | None = None) -> None:
        self.log: list[str] = []
        self.observer = Recorder()
        self.queue = _Stage(self.log, "queue")
        self.grant = _Stage(self.log, "grant", refuses)

    def lease(
        self, listener: LeaseListener = NULL_LISTENER, *, counted: bool = True
    ) -> LeaseContext:
        request = LeaseRequest(A, counted=counted)
        return LeaseContext(request, (self.queue, self.grant), self.observer, listener)


class _Stage:
    def __init__(self, log: list[str], name: str, refuses: EngineError | None = None) -> None:
        self._log = log
        self._name = name
        self._refuses = refuses

    def enters_immediately(self, request: LeaseRequest) -> bool:
        return True

    async def enter(self, request: LeaseRequest) -> Callable[[], None]:
        self._log.append(f"{self._name} entered")
        if self._refuses is not None:
            raise self._refuses
        if self._name == "grant":
            request.lease = Lease(A, CacheOutcome.GPU_HIT, request.waited_seconds, 0.0)
        return lambda: self._log.append(f"{self._name} left")


class Listener:
    """`breaks`: what it raises once the lease is there."""

    def __init__(self, breaks: BaseException | None = None) -> None:
        self.log: list[object] = []
        self._breaks = breaks

    @contextmanager
    def waiting(self, version: AdapterVersion) -> Iterator[Callable[[Lease], None]]:
        self.log.append("waits")
        try:
            yield lambda lease: self.log.append(lease.outcome)
        finally:
            self.log.append("no longer waits")

    def on_refused(self, error: EngineError) -> None:
        self.log.append(error)

    def on_leased(self, lease: Lease) -> None:
        self.log.append("leased")
        if self._breaks is not None:
            raise self._breaks


async def test_stages_are_left_in_reverse_order() -> None:
    stages, listener = Stages(), Listener()
    async with stages.lease(listener) as lease:
        assert stages.log == ["queue entered", "grant entered"]
        assert lease.version == A
    assert stages.log[2:] == ["grant left", "queue left"]
    assert listener.log == ["waits", CacheOutcome.GPU_HIT, "no longer waits", "leased"]


async def test_a_refused_request_leaves_the_stages_that_it_passed() -> None:
    stages, listener = Stages(refuses=FULL), Listener()
    with pytest.raises(QueueFull):
        await stages.lease(listener).__aenter__()
    assert stages.log == ["queue entered", "grant entered", "queue left"]
    assert stages.observer.events == [Refused(A, FULL)]
    assert listener.log == ["waits", "no longer waits", FULL]


async def test_the_refusal_of_an_operator_is_no_event() -> None:
    stages = Stages(refuses=FULL)
    with pytest.raises(QueueFull):
        await stages.lease(counted=False).__aenter__()
    assert stages.observer.events == []


async def test_a_lease_is_released_once_however_often_that_is_said() -> None:
    stages = Stages()
    context = stages.lease(Listener())
    await context.acquire()
    context.release()
    context.release()
    assert stages.log[2:] == ["grant left", "queue left"]


@pytest.mark.parametrize("error", [ValueError("broken"), QueueFull(1, 1)])
async def test_a_request_that_ends_when_it_is_leased_keeps_no_lease(error: BaseException) -> None:
    stages, listener = Stages(), Listener(breaks=error)
    with pytest.raises(type(error)):
        await stages.lease(listener).__aenter__()
    assert stages.log[2:] == ["grant left", "queue left"]
    assert stages.observer.events == [], "it was not refused"
