"""Port of a replica: its server, implemented by `engine.app.Server` and `fleet.stock`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from engine.bootstrap.cache import Cache
from engine.cache.controller import CacheController
from engine.history.recorder import HistoryRecorder
from engine.operations.probe import Probe
from engine.operations.promotion import EnginePromotion


class ReplicaServer(Protocol):
    """One engine with its controller, as a replica uses it: our own server, or a stock vLLM."""

    @property
    def app(self) -> ASGIApp: ...
    @property
    def cache(self) -> Cache: ...
    @property
    def controller(self) -> CacheController: ...
    @property
    def promotion(self) -> EnginePromotion: ...
    @property
    def probe(self) -> Probe: ...
    @property
    def freeze_metrics(self) -> Callable[[], AbstractContextManager[None]]: ...
    @property
    def metrics_registry(self) -> CollectorRegistry: ...
    @property
    def recorder(self) -> HistoryRecorder | None: ...

    async def check_base(self, reference: str) -> None:
        """Raises OtherBaseModel for a version that is bound to another base model than this one's.

        The ingress resolved it by the files of its own node. Raises the registry's other errors.
        """

    def holds_response(self, tenant: str | None, response_id: str) -> bool:
        """Whether it has a response with this id among those that it has stored for the tenant."""

    async def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """The engine's name of the module of each tensor of one adapter.

        Raises EngineUnavailable.
        """
