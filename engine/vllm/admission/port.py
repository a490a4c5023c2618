"""Port of admission: what vLLM's engine client asks before a request may enter the engine."""

from collections.abc import Callable, Mapping
from typing import Protocol

from engine.errors import EngineUnavailable
from engine.types import VersionId, WorkDone


class AdmittedRequest(Protocol):
    """A request that may enter the engine. `trace_headers`: the parent of vLLM's own span."""

    @property
    def trace_headers(self) -> Mapping[str, str] | None: ...

    def on_end(self, work: WorkDone) -> None:
        """The engine's work on it has ended. Called exactly once."""

    def on_engine_death(self, error: EngineUnavailable) -> None:
        """It has no response, because the engine ended."""


class RequestAdmission(Protocol):
    """Admits requests to the engine. `RequestLeases` implements it for requests over HTTP."""

    async def admit(
        self, requested: VersionId | None, abort: Callable[[], None]
    ) -> AdmittedRequest:
        """Lease what the running request was resolved to. Raises what `CacheController.lease` does.

        `requested`: the adapter of the engine request; AdapterNotUsed if it is another one. `abort`
        aborts that."""
