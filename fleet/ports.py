"""Ports of the ingress: its replicas. Implemented over Ray Serve by `fleet.ray.replicas`."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from fleet.messages import ForwardedRequest, Messages, ReplicaResults


class ReplicaLost(Exception):
    """The replica died or can't be reached. `replica`: its name, if known."""

    def __init__(self, detail: str, replica: str | None = None) -> None:
        super().__init__(detail)
        self.replica = replica


class NoReplica(ReplicaLost):
    """None answers, so that none was asked and lost."""


class Replicas(Protocol):
    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        """Call a method of `fleet.replica.operations.Operations` on all replicas, or those named.

        Raises EngineUnavailable if there is none.
        """

    def forward(
        self, request: ForwardedRequest
    ) -> AbstractAsyncContextManager[AsyncGenerator[Messages]]:
        """Send the request to the most suitable replica; leaving the block ends the request.

        Raises ReplicaLost.
        """
