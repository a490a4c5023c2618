"""History routes of a fleet: each replica records its own, and the ingress reads them all."""

import asyncio
import time
from collections.abc import Callable, Sequence

from fastapi import APIRouter

from engine.api.history import create_history_router
from engine.bootstrap.history import open_store
from engine.errors import EngineUnavailable
from engine.history.reader import HistoryReader
from engine.settings import EngineSettings
from fleet.ports import Replicas
from registry.cache_history import HistoryRow, may_be_shortened, replica_name, split_name
from registry.database.engine import Database

KEPT_SECONDS = 5.0
"""How long it is remembered which replicas record."""


class FleetRecording:
    """Implements `engine.history.reader.Recording`: asks the replicas for what isn't saved yet.

    One that doesn't answer has saved all but its last seconds.
    """

    def __init__(
        self, replicas: Replicas, fleet: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._replicas = replicas
        self._fleet = fleet
        self._clock = clock
        self._asking = asyncio.Lock()
        self._known: tuple[float, dict[str, str]] | None = None

    async def servers(self) -> list[str]:
        return sorted(await self._replicas_by_history())

    async def unsaved_rows(self, server: str) -> Sequence[HistoryRow]:
        replica = await self._replica(server)
        if replica is None:
            return ()
        try:
            found = await self._replicas.call("unsaved_history", only=frozenset({replica}))
        except EngineUnavailable:
            return ()
        rows: Sequence[HistoryRow] = found.values.get(replica, ())
        return rows

    async def _replica(self, server: str) -> str | None:
        """The one that has its history under this name; None: it is none of this fleet's."""
        fleet, replica = split_name(server)
        if replica is None or fleet != self._fleet:
            return None
        return (
            (await self._replicas_by_history()).get(server) if may_be_shortened(server) else replica
        )

    async def _replicas_by_history(self) -> dict[str, str]:
        """Replicas by the name of their history.

        Asked of all once in a few seconds: a page asks for the history of each.
        """
        async with self._asking:
            if self._known is None or self._clock() - self._known[0] >= KEPT_SECONDS:
                found = await self._ask()
                self._known = (self._clock(), found) if found else None
            return {} if self._known is None else self._known[1]

    async def _ask(self) -> dict[str, str]:
        try:
            found = (await self._replicas.call("records_history")).values
        except EngineUnavailable:
            return {}
        return {replica_name(self._fleet, name): name for name, records in found.items() if records}


async def create_fleet_history_router(
    database: Database, settings: EngineSettings, fleet: str, replicas: Replicas
) -> APIRouter:
    """Raises DatabaseUnavailable."""
    store = await open_store(database, settings, fleet)
    recording = FleetRecording(replicas, fleet) if store.keep_seconds else None
    return create_history_router(HistoryReader(store, recording), settings.grafana_url)
