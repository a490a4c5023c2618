"""What a failed load means for the next one."""

import torch

from engine.errors import LoadFailure
from engine.worker.safetensors_file import Unreadable

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def failure_of(error: BaseException) -> LoadFailure:
    """Torch reports that it found no host memory as a RuntimeError with that text."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return LoadFailure.MEMORY
    if isinstance(error, FileNotFoundError | NotADirectoryError | Unreadable):
        return LoadFailure.FILES
    if isinstance(error, OSError):
        return LoadFailure.IO
    text = str(error).lower()
    if isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY):
        return LoadFailure.MEMORY
    return LoadFailure.ADAPTER
