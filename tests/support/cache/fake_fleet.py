"""Replicas without engines or Ray: the same operations on controllers over the fake backend."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from engine.errors import EngineUnavailable
from engine.history.recorder import HistoryRecorder
from engine.operations.pins import PinService
from engine.operations.probe import ProbeResult
from engine.operations.promotion import EnginePromotion
from engine.operations.warmup import WarmUp
from engine.ports import Observers
from engine.telemetry.decision_log import DecisionLog
from engine.types import AdapterVersion
from fleet.messages import EngineFacts, ForwardedRequest, Messages, ReplicaResult, ReplicaResults
from fleet.ports import ReplicaLost
from fleet.replica.replica import Replica
from registry.errors import OtherBaseModel, UnknownAdapter
from registry.residency import NullResidencyStore
from tests.support.cache.controller_harness import Cache, adapter, running

FACTS = EngineFacts("demo", ("demo",), None, 16, ("*",))


class NobodyResolves:
    """Replicas get versions, never references."""

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        raise AssertionError(text)

    async def find(self, text: str) -> AdapterVersion:
        raise AssertionError(text)


class Names:
    """Resolves the names of `tests.support.cache.controller_harness.adapter`, and no others."""

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        return await self.find(text)

    async def find(self, text: str) -> AdapterVersion:
        number = text.removeprefix("a").partition(":")[0]
        if not number.isdecimal():
            raise UnknownAdapter(text)
        return adapter(int(number))


class GoodProbe:
    async def run(self, version: AdapterVersion) -> ProbeResult:
        return ProbeResult(version.reference, 1.0, 0.0, None)


class FakeReplica:
    """`dies_after` so many batches of a response; None: never."""

    def __init__(
        self,
        name: str,
        app: ASGIApp | None = None,
        recorder: HistoryRecorder | None = None,
        *,
        max_rank: int = 16,
        **sizes: int,
    ) -> None:
        self.name = name
        self.log = DecisionLog()
        told = Observers(self.log, *([recorder] if recorder else []))
        self.controlled = Cache(besides=told, **sizes)  # type: ignore[arg-type]  # its sizes
        if recorder is not None:
            recorder.watch(self.controlled.controller.snapshot)
        self.dies_after: int | None = None
        self.asked: list[ForwardedRequest] = []
        self.down: EngineUnavailable | None = None
        self.of_other_base: set[str] = set()  # references
        self.responses: set[tuple[str | None, str]] = set()  # stored for a tenant
        controller = self.controlled.controller
        self.pins = PinService(controller, NullResidencyStore(), NobodyResolves())
        cache = SimpleNamespace(
            controller=controller,
            log=self.log,
            pins=self.pins,
            warm_up=WarmUp(
                controller, self.pins, NullResidencyStore(), NobodyResolves(), save_seconds=60
            ),
        )
        server: Any = SimpleNamespace(
            app=app,
            cache=cache,
            controller=controller,
            promotion=EnginePromotion(controller, lambda: self.down, GoodProbe()),
            probe=GoodProbe(),
            freeze_metrics=nullcontext,
            metrics_registry=CollectorRegistry(),
            check_base=self._check_base,
            recorder=recorder,
            holds_response=lambda tenant, name: (tenant, name) in self.responses,
        )
        facts = replace(FACTS, max_rank=max_rank)
        self.replica = Replica(name, server, facts, silent_seconds=30.0)

    async def _check_base(self, reference: str) -> None:
        if reference in self.of_other_base:
            raise OtherBaseModel(reference, "other", "ours")

    async def handle(self, request: ForwardedRequest) -> AsyncGenerator[Messages]:
        self.asked.append(request)
        taken = 0
        if self.dies_after == 0:
            raise ReplicaLost("it has died")
        async for batch in self.replica.handle(request):
            yield _passed(batch)
            taken += 1
            if taken == self.dies_after:
                raise ReplicaLost("it has died")


class FakeReplicas:
    """Implements `fleet.ports.Replicas`. Arguments and results are pickled, as Ray does it.

    An answer is given by the first one that is not to be avoided.
    """

    def __init__(self, *replicas: FakeReplica) -> None:
        self.there = list(replicas)

    def of(self, name: str) -> FakeReplica:
        (found,) = [each for each in self.there if each.name == name]
        return found

    def held(self) -> dict[str, set[str]]:
        """By replica, the references of what is in host memory."""
        snapshots = {each.name: each.controlled.controller.snapshot() for each in self.there}
        return {n: {r.version.reference for r in each.host} for n, each in snapshots.items()}

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        if not self.there:
            raise EngineUnavailable("no replica is there")
        calls = [
            each.replica.call(operation, _passed(arguments), _passed(only)) for each in self.there
        ]
        given = [_passed(each) for each in await asyncio.gather(*calls)]
        answered: list[ReplicaResult[Any]] = [each for each in given if each is not None]
        return ReplicaResults.collect(answered)

    @asynccontextmanager
    async def forward(self, request: ForwardedRequest) -> AsyncIterator[AsyncGenerator[Messages]]:
        able = [each for each in self.there if each.name not in request.avoid] or self.there
        able = [each for each in able if each.name == request.only] or able
        messages = able[0].handle(_passed(request))
        try:
            yield messages
        finally:
            await messages.aclose()


def _passed(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # our own


@asynccontextmanager
async def fake_fleet(*replicas: FakeReplica) -> AsyncIterator[FakeReplicas]:
    async with AsyncExitStack() as stack:
        for each in replicas:
            await stack.enter_async_context(running(each.controlled))
        yield FakeReplicas(*replicas)
