"""The replicas as the entrance sees them. Ray Serve's are behind this in `fleet.ray.replicas`."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from fleet.messages import Answers, ForwardedRequest, Messages


class ReplicaLost(Exception):
    """It has died, or can't be reached. `replica`: its name, if that is known."""

    def __init__(self, detail: str, replica: str | None = None) -> None:
        super().__init__(detail)
        self.replica = replica


class Replicas(Protocol):
    async def ask(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> Answers[Any]:
        """One of `fleet.replica.operations.Operations`, of all of them or of those named.

        Raises EngineUnavailable if there is none.
        """

    def answer(
        self, request: ForwardedRequest
    ) -> AbstractAsyncContextManager[AsyncGenerator[Messages]]:
        """By the one that suits it best; leaving the block ends the request.

        Raises ReplicaLost.
        """
