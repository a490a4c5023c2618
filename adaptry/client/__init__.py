"""The Python client of the whole server: `Client`, and `AsyncClient` for event loops."""

from typing import TYPE_CHECKING

from adaptry.client.client import Client
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
)
from adaptry.client.resources.registration import Registration, Submission
from adaptry.client.transport.requests import UNSET

if TYPE_CHECKING:
    from adaptry.client.async_client import AsyncClient
    from adaptry.client.resources.download import unpack_version

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
    "unpack_version",
]


def __getattr__(name: str) -> object:
    """What few programs need is imported when it is asked for: asyncio and hashing take a while."""
    if name == "AsyncClient":
        from adaptry.client.async_client import AsyncClient

        return AsyncClient
    if name == "unpack_version":
        from adaptry.client.resources.download import unpack_version

        return unpack_version
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
