"""Training files on their way: which of those beside an adapter are sent, kept and remarked on."""

from collections.abc import Iterable
from pathlib import Path

from registry.errors.defects import Remark
from registry.inspection.training_files import FOLDER, MAX_FILE_BYTES, NAMES, NEW_EMBEDDINGS

MAX_TRAINING_BYTES = 2 * MAX_FILE_BYTES
"""Of all that an upload brings with an adapter."""

TRAINING_BYTES_HEADER = "x-adaptry-training-bytes"
"""How much of an upload's body is training files: a tenant's room is not needed for them."""


def files_to_send(folder: Path) -> list[Path]:
    """Those in a folder that are sent with an adapter: small ones first, while there is room."""
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    sizes = {file: file.stat().st_size for file in found}
    sent, room = [], MAX_TRAINING_BYTES
    for file in sorted(found, key=sizes.__getitem__):
        if sizes[file] <= min(MAX_FILE_BYTES, room):
            sent.append(file)
            room -= sizes[file]
    return sent


def drop_large_files(folder: Path, max_bytes: int) -> list[str]:
    """Delete the training files of an adapter in quarantine that are larger; their names.

    That there are embeddings of new tokens decides, whatever their size.
    """
    beside = folder / FOLDER
    large = (
        [file for file in beside.iterdir() if file.stat().st_size > max_bytes]
        if beside.is_dir()
        else []
    )
    dropped = [file for file in large if file.name != NEW_EMBEDDINGS]
    for file in dropped:
        file.unlink()
    return [file.name for file in dropped]


def unread_remarks(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The remark on training files that are too large, or that can't be had; none without any."""
    listed = ", ".join(sorted(set(names)))
    detail = f"too large or not to be had, and counts as absent: {listed}"
    return ((Remark.TRAINING_UNREAD, detail),) if listed else ()
