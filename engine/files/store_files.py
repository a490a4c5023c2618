"""The registry's verified files, as a load sees them."""

import asyncio
from pathlib import Path

from engine.errors import AdapterLoadFailed, LoadFailure
from engine.types import AdapterVersion
from registry.storage.integrity import FilesChanged, verify


class StoredFiles:
    """Implements the `Files` port over the content-addressed store."""

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """Raises AdapterLoadFailed."""
        try:
            await asyncio.to_thread(verify, Path(version.path), version.digest)
        except (FilesChanged, FileNotFoundError, NotADirectoryError) as error:
            raise failed_load(version, error, LoadFailure.FILES) from error
        except OSError as error:
            raise failed_load(version, error, LoadFailure.IO) from error
        return version


def failed_load(
    version: AdapterVersion, error: Exception, failure: LoadFailure
) -> AdapterLoadFailed:
    """Why its files can't be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AdapterLoadFailed(version.reference, reason, failure)
