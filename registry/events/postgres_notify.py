"""PostgreSQL LISTEN/NOTIFY: tells servers on one database of each other's changes immediately.

A notification says that something changed, not what: servers then poll, as they also do every
second. So a lost one costs a second. It is sent after the commit, because PostgreSQL serializes the
commits of transactions that notify.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from asyncpg import InterfaceError, PostgresError, connect

from registry.database.engine import Database
from registry.events.watermark import wait_for

logger = logging.getLogger(__name__)

_CHANNEL = "adaptry_changes"
_OPTIONS: Mapping[str, Any] = {  # asyncpg's; times in seconds
    "timeout": 5,
    "command_timeout": 10,
    "server_settings": {"application_name": "adaptry changes"},
}
_CHECK_SECONDS = 10.0  # how soon a silently lost connection is noticed
_RETRY_SECONDS = 1.0
_CLOSE_SECONDS = 1.0
_MIN_INTERVAL_SECONDS = 0.1  # one notification covers many changes, and each makes the others poll


class ChangeNotifier:
    """`run` needs its own task and uses its own connection. Does nothing on SQLite.

    `refresh` is called when another server has changed something, and whenever notifications may
    have been missed.
    """

    def __init__(self, database: Database, refresh: Callable[[], Awaitable[None]]) -> None:
        self._url = database.url
        self._refresh = refresh
        self._notified = self._changed = False
        self._wake = asyncio.Event()
        self._is_away = False
        database.on_change.append(self._on_change)

    async def run(self) -> None:
        """Run until cancelled; reconnects during an outage."""
        if self._url.get_backend_name() != "postgresql":
            await asyncio.Event().wait()
        while True:
            try:
                async with self._listen() as connection:
                    await self._exchange(connection)
            except Exception as error:  # any error: servers poll as well
                if not self._is_away:
                    logger.warning("changes of other servers are polled for now: %s", error)
                self._is_away = True
            await asyncio.sleep(_RETRY_SECONDS)

    @asynccontextmanager
    async def _listen(self) -> AsyncIterator[Any]:
        """asyncpg's own connection: SQLAlchemy's have no notifications."""
        _, place = self._url.get_dialect()().create_connect_args(self._url)
        connection: Any = await connect(**place, **_OPTIONS)
        try:
            await connection.add_listener(_CHANNEL, self._on_notification)
            self._is_away = False
            self._notified = True
            self._wake.set()
            yield connection
        finally:
            with suppress(PostgresError, InterfaceError, OSError):
                await connection.close(timeout=_CLOSE_SECONDS)

    async def _exchange(self, connection: Any) -> None:
        while True:
            await wait_for(self._wake, _CHECK_SECONDS)
            self._wake.clear()
            if self._notified:
                self._notified = False
                await self._refresh()
            notify, self._changed = self._changed, False
            await connection.execute(f"NOTIFY {_CHANNEL}" if notify else "SELECT 1")
            await asyncio.sleep(_MIN_INTERVAL_SECONDS)

    def _on_change(self) -> None:
        self._changed = True
        self._wake.set()

    def _on_notification(self, connection: Any, sender: int, *_: object) -> None:
        if sender != connection.get_server_pid():
            self._notified = True
            self._wake.set()
