"""History of one server's cache: recorder, background work and routes, or none of them."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from engine.api.history import create_history_router
from engine.cache.snapshot import CacheSnapshot
from engine.history.reader import HistoryReader
from engine.history.recorder import HistoryRecorder
from engine.ports import Observer
from engine.settings import EngineSettings
from registry.cache_history import CacheHistoryStore
from registry.database.engine import Database
from registry.telemetry.metrics import RegistryMetrics


@dataclass(frozen=True, slots=True)
class ServerHistory:
    """`recorder` None: nothing is recorded. `work` has to run meanwhile."""

    store: CacheHistoryStore
    recorder: HistoryRecorder | None
    grafana_url: str | None

    @property
    def observers(self) -> Sequence[Observer]:
        return () if self.recorder is None else (self.recorder,)

    def work(self, snapshot: Callable[[], CacheSnapshot]) -> list[Coroutine[None, None, None]]:
        """`snapshot`: of the cache whose events `observers` are told of."""
        if self.recorder is None:
            return []
        self.recorder.watch(snapshot)
        return [self.recorder.run()]

    def router(self) -> APIRouter:
        return create_history_router(HistoryReader(self.store, self.recorder), self.grafana_url)


async def open_history(
    database: Database,
    settings: EngineSettings,
    server: str,
    metrics: RegistryMetrics,
    *,
    is_replica: bool,
) -> ServerHistory:
    """A replica records none: its ingress could not ask for it.

    A server that is to record none deletes what it has. Raises DatabaseUnavailable.
    """
    seconds = settings.history_hours * 3600
    store = CacheHistoryStore(
        database, server, keep_seconds=seconds, max_bytes=settings.history_bytes
    )
    recorder = None
    if seconds and not is_replica:
        recorder = HistoryRecorder(store, on_drop=metrics.on_history_dropped)
    elif not is_replica:
        await store.clear()
    return ServerHistory(store, recorder, settings.grafana_url)
