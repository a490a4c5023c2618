"""Errors of the client. Each one's text is a single line for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptry.client.models import JobRead


class AdaptryError(Exception):
    """The base of all errors of the client."""


class InvalidServer(AdaptryError, ValueError):
    """The server's URL or the API key is malformed."""


class InvalidReference(AdaptryError, ValueError):
    """A reference is not of the form `name:3`, where a method needs one version."""


class InvalidSource(AdaptryError, ValueError):
    """Local files to upload do not exist or can't be read."""


class NoAnswer(AdaptryError):
    """No response from `base_url`, or not in time."""

    def __init__(self, base_url: str, reason: str) -> None:
        self.base_url = base_url
        self.reason = reason
        super().__init__(f"no answer from {base_url}: {reason}")


class UploadBroken(NoAnswer):
    """The server stopped reading an upload."""


class UnexpectedAnswer(AdaptryError):
    """The response is not Adaptry's: another server runs there."""


class PullFailed(AdaptryError):
    """The downloaded files are not the version's, or they can't be written here."""


class WriteFailed(PullFailed):
    """The downloaded files can't be written here; `reason` has no path."""

    def __init__(self, place: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{place} can't be written: {reason}")


class JobFailed(AdaptryError):
    """A registration ended without a version; `code` and `detail` are the job's."""

    def __init__(self, job: "JobRead") -> None:
        self.job = job
        self.code = job.code or ""
        self.detail = job.detail or f"job {job.id} is {job.state}"
        super().__init__(f"{self.detail} [{self.code}]" if self.code else self.detail)


class ApiError(AdaptryError):
    """The server refused a request, with problem details (RFC 9457).

    `code` is stable, for programs; it is empty if the response did not come from Adaptry.
    `retry_after_seconds` is None unless the server sent it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after_seconds: float | None = None,
        problem: Mapping[str, object] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.problem = problem or {}
        super().__init__(f"{detail} [{code}]" if code else f"{detail} (HTTP {status})")


class InvalidRequest(ApiError):
    """400, 413 or 422: the request is malformed, too large or not valid."""


class Unauthorized(ApiError):
    """401 or 403: no API key, a wrong one, or one without the scope."""


class NotFound(ApiError):
    """404 or 410: it does not exist, or no longer."""


class Conflict(ApiError):
    """409: the current state does not allow it."""


class TooManyRequests(ApiError):
    """429: over a limit; retry after `retry_after_seconds`."""


class Unavailable(ApiError):
    """502, 503 or 504: the engine, database or server is unavailable or too slow."""


BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
