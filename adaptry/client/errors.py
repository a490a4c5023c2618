"""What can go wrong between a client and the server."""

from collections.abc import Mapping

from adaptry.client.models import JobRead


class AdaptryError(Exception):
    """Any of these. Its text is one line for people."""


class InvalidServer(AdaptryError, ValueError):
    """The URL of the server is none."""


class InvalidReference(AdaptryError, ValueError):
    """Not `name:3`, where one version has to be named."""


class InvalidSource(AdaptryError, ValueError):
    """The files of this machine that were to be sent are not there or can't be read."""


class NoAnswer(AdaptryError):
    """Nobody answered at `base_url`, in time or at all."""

    def __init__(self, base_url: str, reason: str) -> None:
        self.base_url = base_url
        self.reason = reason
        super().__init__(f"no answer from {base_url}: {reason}")


class UploadBroken(NoAnswer):
    """The server stopped reading what was sent to it."""


class UnexpectedAnswer(AdaptryError):
    """Somebody else's: this server does not speak Adaptry's API."""


class JobFailed(AdaptryError):
    """A registration ended without a version; `code` and `detail` are the job's."""

    def __init__(self, job: JobRead) -> None:
        self.job = job
        self.code = job.code or ""
        self.detail = job.detail or f"job {job.id} is {job.state}"
        super().__init__(f"{self.detail} [{self.code}]" if self.code else self.detail)


class ApiError(AdaptryError):
    """The server said no, in problem details (RFC 9457).

    `code` is stable and tells programs what happened; it is empty if the answer was not the
    server's own. `retry_after_seconds` is None unless the server said so.
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
    """400, 413 or 422: it can't be carried out as it was asked."""


class Unauthorized(ApiError):
    """401 or 403: no API key, a wrong one, or one that may not."""


class NotFound(ApiError):
    """404 or 410: it is not there, or no more."""


class Conflict(ApiError):
    """409: something else is so that it can't be done now."""


class TooManyRequests(ApiError):
    """429: later, see `retry_after_seconds`."""


class Unavailable(ApiError):
    """502, 503 or 504: engine, database or server are away, or took too long."""


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
