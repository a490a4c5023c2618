"""Condemnation: the one rule by which a server takes a version out of service on its own.

A version is quarantined only on proof about the version itself: its files, read whole from a store
that answers, have another digest than was registered. Whatever else keeps a server from serving it
(a store that is away, a smaller engine, a device or memory that fails) is about that server: it
refuses for as long as the cause lasts, and the version stays as it is for all others.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from registry.errors import FilesDamaged
from registry.lifecycle.service import LifecycleService
from registry.sources.disks.store_threads import WORK
from registry.storage.integrity import FilesChanged, verify

logger = logging.getLogger(__name__)

CODE = FilesDamaged.code


class Condemnation:
    """Quarantines versions on proof. Operators may quarantine for any reason of theirs."""

    def __init__(self, lifecycle: LifecycleService, path_of: Callable[[str], Path]) -> None:
        self._lifecycle = lifecycle
        self._path_of = path_of

    async def condemn(self, version_id: int, digest: str, *, actor: str) -> bool:
        """Quarantine the version if its files are proven to be damaged. Whether they were.

        The files are hashed again, whatever a fingerprint or a copy elsewhere says.
        """
        damage = await WORK.run(partial(find_damage, self._path_of(digest), digest))
        if damage is None:
            return False
        await self._lifecycle.quarantine(version_id, damage, CODE, actor)
        return True


def find_damage(folder: Path, digest: str) -> str | None:
    """What is proven to be wrong with the files; None if nothing is."""
    try:
        verify(folder, digest, trust_fingerprint=False)
    except FilesChanged as error:
        return str(error)
    except OSError as error:
        logger.warning("nothing is proven about %s…: %s", digest[:16], error.strerror or error)
    return None
