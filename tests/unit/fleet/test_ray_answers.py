"""Ray Serve's answers to one call: one that is stopped holds no other's back, and not for ever."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayError
from ray.serve.handle import DeploymentBroadcastResponse

from engine.errors import EngineUnavailable
from fleet.messages import ReplicaResult
from fleet.ray import replicas as module
from fleet.ray.replicas import ServeReplicas

Answer = Callable[[str], Any]


class Handle:
    """Broadcasts to replicas that answer, fail, or hang; by Ray's own class."""

    app_name, deployment_name = "adaptry", "replica"

    def __init__(self, **replicas: Any) -> None:
        self.replicas = replicas
        self.asked: list[str] = []

    def options(self, *, stream: bool) -> None:
        """Not streamed here."""

    def broadcast(
        self, method: str, operation: str, arguments: Any, only: frozenset[str] | None
    ) -> DeploymentBroadcastResponse:
        self.asked.append(operation)

        async def ask() -> list[Any]:
            return [self._result(name, operation, only) for name in self.replicas]

        return DeploymentBroadcastResponse(ask(), None)

    def _result(self, name: str, operation: str, only: frozenset[str] | None) -> Any:
        async def get_async() -> ReplicaResult[Any] | None:
            found = self.replicas[name]
            if callable(found):
                found = found(operation)
            if isinstance(found, asyncio.Event):
                await found.wait()
            elif isinstance(found, BaseException):
                raise found
            return None if only is not None and name not in only else ReplicaResult(name, "here")

        return SimpleNamespace(get_async=get_async)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.05)


def port(**replicas: Any) -> tuple[ServeReplicas, Handle]:
    handle = Handle(**replicas)
    return ServeReplicas(handle, len(replicas)), handle  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize("operation", ["facts", "report", "pin"])
async def test_a_stopped_replica_is_not_waited_for(operation: str) -> None:
    replicas, _ = port(one="here", two=asyncio.Event(), three="here")
    async with asyncio.timeout(10):
        found = await replicas.call(operation)
    assert set(found.values) == {"one", "three"}
    assert found.unanswered == 1
    with pytest.raises(EngineUnavailable, match="does not answer"):
        found.all_that_live()


async def test_a_call_of_others_does_not_wait_for_a_stopped_replica_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 60.0)
    replicas, handle = port(one="here", two=asyncio.Event(), three="here")
    async with asyncio.timeout(10):
        found = await replicas.call("pin", only=frozenset({"one"}))
    assert (set(found.values), found.unanswered) == ({"one"}, 0)
    assert handle.asked == ["pin"]


async def test_a_replica_that_works_long_is_waited_for() -> None:
    done = asyncio.Event()
    replicas, handle = port(one=lambda operation: done if operation == "pin" else "here", two="")
    calling = asyncio.create_task(replicas.call("pin", only=frozenset({"one"})))
    async with asyncio.timeout(10):
        while handle.asked.count("serves") < 3:
            await asyncio.sleep(0.01)
        assert not calling.done()
        done.set()
        assert set((await calling).values) == {"one"}


async def test_a_replica_that_died_is_no_answer_that_is_missing() -> None:
    replicas, _ = port(one="here", two=RayActorError(), three=RayError("the way to it broke"))
    found = await replicas.call("uses")
    assert (set(found.values), found.unanswered) == ({"one"}, 1)


@pytest.mark.parametrize("found", [RayActorError(), asyncio.CancelledError()])
async def test_if_none_answers_the_engine_is_unavailable(found: BaseException) -> None:
    stopped = asyncio.Event()
    replicas, _ = port(one=found, two=stopped)
    async with asyncio.timeout(10):
        with pytest.raises(EngineUnavailable):
            await replicas.call("evict")
