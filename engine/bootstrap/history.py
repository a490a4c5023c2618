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
from registry.cache_history import CacheHistoryStore, split_name
from registry.database.engine import Database


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
        """`snapshot`: of the cache whose events `observers` get."""
        if self.recorder is None:
            return []
        self.recorder.watch(snapshot)
        return [self.recorder.run()]

    def router(self) -> APIRouter:
        return create_history_router(HistoryReader(self.store, self.recorder), self.grafana_url)


async def open_history(
    database: Database, settings: EngineSettings, server: str, on_drop: Callable[[int], None]
) -> ServerHistory:
    """`server`: under which name it is kept. `on_drop`: see `HistoryRecorder`.

    A server that is to record none deletes what it has. Raises DatabaseUnavailable.
    """
    store = await open_store(database, settings, server)
    recorder = HistoryRecorder(store, on_drop=on_drop) if store.keep_seconds else None
    return ServerHistory(store, recorder, settings.grafana_url)


async def open_store(
    database: Database, settings: EngineSettings, server: str
) -> CacheHistoryStore:
    """Empty, if it is to keep nothing: a replica's is emptied by its ingress.

    Raises DatabaseUnavailable.
    """
    store = CacheHistoryStore(
        database,
        server,
        keep_seconds=settings.history_hours * 3600,
        max_bytes=settings.history_bytes,
    )
    if not store.keep_seconds and split_name(server)[1] is None:
        await store.clear()
    return store
