"""The registry, as a guest asks it. Everything here blocks."""

import logging
from pathlib import Path

from adaptry.client import Client, Conflict, InvalidRequest, NotFound, unpack_version
from adaptry.client.models import VersionRead
from registry.errors import RegistryError
from registry.references import parse_reference
from registry.storage.local_copy import LocalCopyCache

logger = logging.getLogger(__name__)


class Host:
    """Resolves references and brings their files here."""

    def __init__(self, client: Client, files: LocalCopyCache) -> None:
        self._client = client
        self.files = files

    def find(self, name: str) -> VersionRead | None:
        """What the name means now; None if it is none of the registry's, or is not served.

        Raises AdaptryError where the registry can't say.
        """
        try:
            parse_reference(name)
        except RegistryError:
            return None
        try:
            return self._client.versions.resolve(name)
        except (NotFound, Conflict, InvalidRequest) as error:
            logger.info("%s is not served: %s", name, error)
            return None

    def fetch(self, version: VersionRead) -> Path:
        """A folder with its files. Raises AdaptryError, OSError."""

        def fetch(folder: Path) -> None:
            with self._client.versions.download(version.reference) as chunks:
                size_bytes = unpack_version(chunks, version.digest, folder)
            logger.info("fetched %s, %d bytes", version.reference, size_bytes)

        return self.files.folder_of(version.digest, fetch)
