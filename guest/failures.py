"""Failures of a guest: why it can't serve a version now, in words for its clients and its log."""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from adaptry.client import (
    AdaptryError,
    ApiError,
    NoAnswer,
    PullFailed,
    Unauthorized,
    UnexpectedAnswer,
    WriteFailed,
)
from guest.registry_client import BelongsElsewhere


class Cause(StrEnum):
    """What is at fault."""

    REGISTRY = "registry"
    KEY = "key"
    DOWNLOAD = "download"
    DISK = "disk"
    BASE = "base"
    RANK = "rank"
    ACTIVATED = "activated"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Failure:
    """`said`: to clients, without addresses and paths. `detail`: to the log, of one line."""

    cause: Cause
    said: str
    detail: str

    @property
    def status(self) -> HTTPStatus:
        is_elsewhere = self.cause == Cause.BASE
        return HTTPStatus.CONFLICT if is_elsewhere else HTTPStatus.SERVICE_UNAVAILABLE

    @property
    def is_of_the_version(self) -> bool:
        """Rather than of all that the registry is asked."""
        return self.cause not in (Cause.REGISTRY, Cause.KEY)


class CantServe(Exception):
    """A version that this guest can't serve now."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.detail)


def cant_serve(cause: Cause, text: str) -> CantServe:
    return CantServe(Failure(cause, text, text))


def failure_of(error: Exception) -> Failure:
    """Of what the resolver met: its own errors, the client's, the disk's, or vLLM's."""
    if isinstance(error, CantServe):
        return error.failure
    detail = one_line(error)
    cause, said = _blame(error, detail)
    return Failure(cause, said, detail)


def _blame(error: Exception, detail: str) -> tuple[Cause, str]:
    found = (Cause.ENGINE, f"vLLM can't serve it: {detail}")
    match error:
        case BelongsElsewhere():
            found = (Cause.BASE, detail)
        case WriteFailed():
            found = (Cause.DISK, f"this server can't write its files: {error.reason}")
        case PullFailed():
            found = (Cause.DOWNLOAD, detail)
        case Unauthorized():
            found = (Cause.KEY, f"the registry refuses this server's key: {error.detail}")
        case AdaptryError():
            found = (Cause.REGISTRY, _answer_of(error))
        case OSError():
            found = (Cause.DISK, f"this server can't use its files: {error.strerror or detail}")
    return found


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _answer_of(error: AdaptryError) -> str:
    match error:
        case NoAnswer():
            return f"the registry does not answer: {error.reason}"
        case ApiError():
            return f"the registry answers {error.status}: {error.detail}"
        case UnexpectedAnswer():
            return "what answers at the registry's address is no registry"
    return str(error)
