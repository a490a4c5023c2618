"""Writes down who had an adapter put out of memory."""

import logging
from typing import Protocol

from engine.types import AdapterVersion
from registry.auth.caller import acting
from registry.auth.client_address import calling_address
from registry.errors import RegistryError

logger = logging.getLogger(__name__)


class EvictionLog(Protocol):
    """Raises RegistryError if the database can't be used."""

    async def note_eviction(self, version_id: int, *, actor: str, force: bool) -> None: ...


async def note_eviction(log: EvictionLog, version: AdapterVersion, *, force: bool) -> None:
    """It has happened: whoever asked is told so, though nobody can write it down now."""
    try:
        await log.note_eviction(version.id, actor=acting(), force=force)
    except RegistryError as error:
        logger.warning(
            "%s was evicted by %s from %s, which is not among the events: %s",
            version.reference,
            acting(),
            calling_address(),
            error.detail,
        )
