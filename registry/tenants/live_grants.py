"""Current grants, for responses that outlast the request that began them."""

from dataclasses import replace

from cachetools import TTLCache

from registry.auth.caller import Caller
from registry.auth.grants import granted_adapters
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable

FRESH_SECONDS = 1.0
_MAX_CACHED = 10_000


class LiveGrants:
    """Grants, cached for one second, as keys are."""

    def __init__(self, database: Database, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._database = database
        self._cache: TTLCache[str, frozenset[str]] = TTLCache(_MAX_CACHED, fresh_seconds)

    async def of(self, caller: Caller) -> Caller:
        """The caller with its current grants; during an outage, unchanged."""
        if (tenant := caller.tenant) is None:
            return caller
        granted = self._cache.get(tenant)
        if granted is None:
            try:
                granted = await self._read(tenant)
            except DatabaseUnavailable:
                return caller
            self._cache[tenant] = granted
        return replace(caller, granted=granted)

    async def _read(self, tenant: str) -> frozenset[str]:
        async with self._database.read_session() as session:
            return await granted_adapters(session, tenant)
