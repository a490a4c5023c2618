"""Replicas on Ray Serve: implements the ingress's port over a deployment handle."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from engine.errors import EngineUnavailable
from fleet.messages import ForwardedRequest, Messages, ReplicaResult, ReplicaResults
from fleet.ports import ReplicaLost

logger = logging.getLogger(__name__)


class ServeReplicas:
    """Implements `fleet.ports.Replicas`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._stream = handle.options(stream=True)

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        """Raises EngineUnavailable."""
        try:
            responses = self._handle.broadcast("call", operation, arguments, only)
            results = await responses.results_async(return_exceptions=True)
        except (RayServeException, RayError) as error:
            raise EngineUnavailable("no replica is running") from error
        answered: list[ReplicaResult[Any]] = []
        for result in results:
            if isinstance(result, BaseException):
                logger.warning("a replica did not answer %s: %s", operation, result)
            elif result is not None:
                answered.append(result)
        if not answered:
            raise EngineUnavailable("no replica answers")
        return ReplicaResults.collect(answered)

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
        raise ReplicaLost(str(error).splitlines()[0]) from error
