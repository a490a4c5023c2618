"""Stored files of a version, checked: damaged, missing, or behind a store that is away."""

from pathlib import Path

from registry.errors import FilesDamaged, FilesMissing, StoreUnavailable
from registry.storage.availability import FilesGone
from registry.storage.integrity import FilesChanged, verify


def check_files(reference: str, folder: Path, digest: str) -> None:
    """Raises FilesDamaged, FilesMissing, StoreUnavailable. May hash all of them."""
    try:
        verify(folder, digest)
    except FilesChanged as error:
        raise FilesDamaged(reference, str(error)) from None
    except FilesGone:
        raise FilesMissing(reference) from None
    except OSError as error:
        raise StoreUnavailable(f"the files can't be read: {error.strerror or error}") from error
