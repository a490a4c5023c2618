"""Refused keys: each is counted, and a line in the log now and then says from where they come.

They are no events: whoever guesses keys could fill the database with them.
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
    """Tells `count` of each; the log of one in ten seconds, with how many there were."""

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
        """Of what was refused for its key; other errors, as of the database, are none."""
        refusal = getattr(error, "refusal", None)
        if not isinstance(refusal, KeyRefusal):
            return
        self._count(refusal)
        if refusal is KeyRefusal.MISSING:  # any scanner of the internet, and each first visit
            return
        self._unlogged += 1
        if (now := self._clock()) - self._logged_at >= _LOG_SECONDS:
            more = (
                f", and {self._unlogged - 1} more since the last line" if self._unlogged > 1 else ""
            )
            where = client_address()
            logger.warning("refused an API key from %s: %s%s", where, refusal.value, more)
            self._logged_at, self._unlogged = now, 0
