"""Model folder: where the files of a base model are on this machine."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError


def find_model_folder(model: str, revision: str | None) -> Path | None:
    """A local path as it is, a Hub id as its cached snapshot; None if neither exists here."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
