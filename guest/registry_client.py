"""Blocking client of the registry, for a guest."""

import logging
from pathlib import Path

from adaptry.client import Client, Conflict, InvalidRequest, NotFound, unpack_version
from adaptry.client.models import VersionRead
from registry.errors import OtherBaseModel
from registry.inspection.base_identity import BaseIdentity
from registry.names.grammar import normalize_served_name, reference_or_none
from registry.storage.local_copy import LocalCopyCache

logger = logging.getLogger(__name__)


class BelongsElsewhere(Exception):
    """The version belongs to another base model than this vLLM serves."""


class RegistryClient:
    """Resolves references and fetches their files."""

    def __init__(self, client: Client, files: LocalCopyCache) -> None:
        self._client = client
        self.files = files

    def find(self, name: str, base: BaseIdentity) -> VersionRead | None:
        """The version that a name means now; None if the registry does not serve it.

        `base`: this vLLM's base model. Raises BelongsElsewhere; AdaptryError if the registry can't
        answer.
        """
        if reference_or_none(name) is None and normalize_served_name(name) is None:
            return None
        try:
            return self._client.versions.resolve(name, base=str(base))
        except (NotFound, Conflict, InvalidRequest) as error:
            if error.code == OtherBaseModel.code:
                raise BelongsElsewhere(error.detail) from error
            if not error.code:  # not the registry's: of a proxy before it, or of another server
                raise
            logger.info("%s is not served: %s", name, error)
            return None

    def fetch(self, version: VersionRead) -> Path:
        """A local folder with the version's files. Raises AdaptryError, OSError."""

        def fetch(folder: Path) -> None:
            with self._client.versions.download(version.reference) as chunks:
                size_bytes = unpack_version(chunks, version.digest, folder)
            logger.info("fetched %s, %d bytes", version.reference, size_bytes)

        return self.files.folder_of(version.digest, fetch)
