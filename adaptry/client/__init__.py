"""The Python client of the whole server: `Client`, and `AsyncClient` for event loops."""

from adaptry.client.client import AsyncClient, Client
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
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UploadBroken,
)
from adaptry.client.resources.download import PullFailed, unpack_version
from adaptry.client.resources.registration import Registration, Submission
from adaptry.client.transport.requests import UNSET

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
