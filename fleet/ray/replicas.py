"""Replicas on Ray Serve: implements the ingress's port over a deployment handle."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import Any, cast

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from engine.errors import EngineUnavailable
from fleet.messages import ForwardedRequest, Messages, ReplicaResults
from fleet.ports import ReplicaLost
from fleet.ray.answers import Answers, begin_calls
from fleet.replica.operations import TAKES_LONG

logger = logging.getLogger(__name__)

_KEPT_SECONDS = 1.0
_ANSWER_SECONDS = 5.0  # a replica that works answers immediately what takes no work


class ServeReplicas:
    """Implements `fleet.ports.Replicas`. `replicas`: their number while Ray doesn't tell it."""

    def __init__(self, handle: DeploymentHandle[Any], replicas: int) -> None:
        self._handle = handle
        self._replicas = replicas
        self._told: tuple[float, int] | None = None
        self._stream = handle.options(stream=True)

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        """Raises EngineUnavailable."""
        try:
            responses = self._handle.broadcast("call", operation, arguments, only)
            asked = await begin_calls(responses)
        except (RayServeException, RayError) as error:
            raise EngineUnavailable("no replica is running") from error
        answers = Answers(asked, only)
        await answers.wait(_ANSWER_SECONDS)
        while operation in TAKES_LONG and not answers.is_whole:
            if not answers.may_come_from(await self._find_living()):
                break
            await answers.wait(_ANSWER_SECONDS)
        found = answers.end(operation)
        if not found.values and not found.failures:
            raise EngineUnavailable("no replica answers")
        return found

    async def _find_living(self) -> Set[str]:
        """The replicas that answer now: one that is stopped does not, until Ray has killed it."""
        try:
            return (await self.call("serves")).values.keys()
        except EngineUnavailable:
            return frozenset()

    async def expected(self) -> int:
        """As many as the deployment has to have: its `num_replicas` may be any, at any time.

        Asked once in a second: each request that no replica can serve wants to know.
        """
        if self._told is None or time.monotonic() - self._told[0] >= _KEPT_SECONDS:
            self._told = time.monotonic(), await self._ask()
        return self._told[1]

    async def _ask(self) -> int:
        try:
            return await asyncio.to_thread(self._target)
        except (RayServeException, RayError, KeyError) as error:  # no such deployment: it ends
            logger.warning("Ray Serve does not tell the number of replicas: %r", error)
            return self._replicas

    def _target(self) -> int:
        client = _get_global_client()  # raises if there is no controller
        assert client is not None
        applications = client.get_serve_details()["applications"]
        deployments = applications[self._handle.app_name]["deployments"]
        return int(deployments[self._handle.deployment_name]["target_num_replicas"])

    @asynccontextmanager
    async def forward(self, request: ForwardedRequest) -> AsyncIterator[AsyncGenerator[Messages]]:
        """Raises ReplicaLost."""
        response = cast(
            "DeploymentResponseGenerator[Messages]", self._stream.handle.remote(request)
        )
        messages = _messages(response)
        try:
            yield messages
        finally:
            response.cancel()  # type: ignore[no-untyped-call]  # theirs
            await messages.aclose()


async def _messages(response: DeploymentResponseGenerator[Messages]) -> AsyncGenerator[Messages]:
    try:
        async for messages in response:
            yield messages
    except RayTaskError:  # the application's own: a defect, and no reason to try again
        raise
    except (RayActorError, RayError, RayServeException) as error:
        raise ReplicaLost(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    """Its type, if it says nothing: some of Ray's have no text."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
