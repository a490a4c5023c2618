"""The Python client of the whole server: `Client`, and `AsyncClient` for event loops."""

from registry.client.client import AsyncClient, Client
from registry.client.errors import (
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
from registry.client.pulling import PullFailed, unpack_version
from registry.client.registering import Registration, Submission
from registry.client.steps import UNSET

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
