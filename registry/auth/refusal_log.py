"""Log of refused keys: each is counted; a rate-limited log line names the client address.

Refusals are not events: an attacker who guesses keys could fill the database with them.
"""

import logging
import time
from collections.abc import Callable

from registry.auth.client_address import client_address
from registry.errors import RegistryError
from registry.errors.access import KeyRefusal

logger = logging.getLogger(__name__)

_LOG_SECONDS = 10.0


class RefusalLog:
    """Calls `count` for each; logs at most one line in ten seconds, with their number."""

    def __init__(
        self,
        count: Callable[[KeyRefusal], None] = lambda refusal: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._clock = clock
        self._logged_at = -_LOG_SECONDS
        self._unlogged = 0

    def record(self, error: RegistryError) -> None:
        """Record a refusal of a key; other errors, such as an outage, are ignored."""
        refusal = getattr(error, "refusal", None)
        if not isinstance(refusal, KeyRefusal):
            return
        self._count(refusal)
        if refusal is KeyRefusal.MISSING:  # any internet scanner, and each first visit of a browser
            return
        self._unlogged += 1
        if (now := self._clock()) - self._logged_at >= _LOG_SECONDS:
            more = (
                f", and {self._unlogged - 1} more since the last line" if self._unlogged > 1 else ""
            )
            where = client_address()
            logger.warning("refused an API key from %s: %s%s", where, refusal.value, more)
            self._logged_at, self._unlogged = now, 0
