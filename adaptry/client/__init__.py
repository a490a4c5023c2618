"""The Python client of the whole server: `Client`, and `AsyncClient` for event loops."""

from importlib import import_module
from typing import TYPE_CHECKING

from adaptry.client.errors import (
    AdaptryError,
    ApiError,
    Conflict,
    InvalidReference,
    InvalidRequest,
    InvalidServer,
    InvalidSource,
    JobFailed,
    NoAnswer,
    NotFound,
    PullFailed,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UploadBroken,
    WriteFailed,
)
from adaptry.client.transport.requests import UNSET

if TYPE_CHECKING:
    from adaptry.client.async_client import AsyncClient
    from adaptry.client.client import Client
    from adaptry.client.resources.download import unpack_version
    from adaptry.client.resources.registration import Registration, Submission

__all__ = [
    "UNSET",
    "AdaptryError",
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "InvalidReference",
    "InvalidRequest",
    "InvalidServer",
    "InvalidSource",
    "JobFailed",
    "NoAnswer",
    "NotFound",
    "PullFailed",
    "Registration",
    "Submission",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "UploadBroken",
    "WriteFailed",
    "unpack_version",
]


_MODULES = {
    "AsyncClient": "adaptry.client.async_client",
    "Client": "adaptry.client.client",
    "Registration": "adaptry.client.resources.registration",
    "Submission": "adaptry.client.resources.registration",
    "unpack_version": "adaptry.client.resources.download",
}


def __getattr__(name: str) -> object:
    """What takes a while is imported when it is asked for: a command's help needs the errors."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
