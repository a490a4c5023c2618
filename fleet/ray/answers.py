"""Answers of replicas to one call, as they come: one that is stopped keeps no other's back.

Ray Serve (2.60) gives the answers to a broadcast once it has all of them, or none. A replica that
is stopped gives none until Ray has killed it, which takes more than half a minute.
"""

import asyncio
import logging
from collections.abc import Sequence, Set
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentBroadcastResponse

from fleet.messages import ReplicaResult, ReplicaResults

logger = logging.getLogger(__name__)

Call = asyncio.Future[ReplicaResult[Any] | None]


async def begin_calls(responses: DeploymentBroadcastResponse) -> Sequence[Call]:
    """One for each replica. Raises Ray's errors if there is none."""
    asked = await responses._fetch_replica_results_async()
    return [asyncio.ensure_future(each.get_async()) for each in asked]  # type: ignore[no-untyped-call]  # theirs


class Answers:
    """`only`: the replicas whose answers are wanted, which are not known before they come; None:
    all.
    """

    def __init__(self, calls: Sequence[Call], only: Set[str] | None) -> None:
        self._only = only
        self._pending = set(calls)
        self._found: list[ReplicaResult[Any]] = []
        self._failed: list[BaseException] = []

    @property
    def is_whole(self) -> bool:
        return not self._pending or (self._only is not None and self._only <= self._named)

    @property
    def _named(self) -> Set[str]:
        return {each.replica for each in self._found}

    async def wait(self, seconds: float) -> None:
        """Until all have come, or for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self.is_whole and (left := end - loop.time()) > 0:
            done, self._pending = await asyncio.wait(
                self._pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            for call in done:
                self._take(call)

    def _take(self, call: Call) -> None:
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if error is not None:
            self._failed.append(error)
        elif (result := call.result()) is not None:
            self._found.append(result)

    def may_come_from(self, living: Set[str]) -> bool:
        """Whether one of these replicas still works on its answer."""
        wanted = living if self._only is None else living & self._only
        return bool(wanted - self._named)

    def end(self, operation: str) -> ReplicaResults[Any]:
        """What has come; the rest is waited for no longer."""
        missing = 0 if self.is_whole else len(self._pending)
        for call in self._pending:
            call.cancel()
        for error in self._failed:
            logger.warning("a replica did not answer %s: %s", operation, error)
        if missing:
            logger.warning("%d replicas did not answer %s in time", missing, operation)
        alive = [error for error in self._failed if not isinstance(error, RayActorError)]
        return ReplicaResults.collect(self._found, missing + len(alive))
