"""HTTP options and error mapping that all transports share. httpx is imported where it is used."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from adaptry.client.errors import BY_STATUS, ApiError, InvalidServer, NoAnswer, UploadBroken
from adaptry.client.transport.requests import Request, Response, parse_response

if TYPE_CHECKING:
    import httpx

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Servers close a connection that was idle for 5 s, perhaps just as the next request is sent.
IDLE_SECONDS = 3.0
CONNECT_SECONDS = 5.0
_ERROR_NUMBER = re.compile(r"^\[Errno -?[0-9]+\] ")
_LABEL = "[a-z0-9-]{1,63}"
_SIMPLE_URL = re.compile(
    rf"https?://{_LABEL}(\.{_LABEL})*(:(?P<port>[0-9]{{1,5}}))?(/[a-z0-9._/-]*)?", re.IGNORECASE
)


class Answer(Protocol):
    """A response that has been read, of httpx or another."""

    @property
    def status_code(self) -> int: ...
    @property
    def reason_phrase(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def is_error(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Options:
    """The server's URL, the API key, and the default timeout. Raises InvalidServer."""

    base_url: str
    api_key: str | None = None
    timeout_seconds: float = 120.0

    def __post_init__(self) -> None:
        if not self.has_simple_url and not _is_valid(self.base_url):
            raise InvalidServer(f"{self.base_url!r} is no server's URL: write http://HOST:PORT")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise InvalidServer("an API key is made of printable ASCII characters")

    @property
    def has_simple_url(self) -> bool:
        """Of letters, digits and few signs: it needs no reading of httpx's, and is valid."""
        found = _SIMPLE_URL.fullmatch(self.base_url)
        return found is not None and 0 <= int(found["port"] or 80) < 2**16

    def client_arguments(self) -> dict[str, Any]:
        """The arguments of httpx's clients."""
        import ssl

        import httpx

        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        url = httpx.URL(self.base_url)
        return {
            "base_url": self.base_url.rstrip("/"),
            "headers": headers,
            "timeout": self.timeout(None),
            "limits": httpx.Limits(keepalive_expiry=IDLE_SECONDS),
            # A proxy of the environment must not stand between us and a server on this machine.
            "trust_env": url.host not in LOOPBACK,
            # To read the certificates takes 40 ms of CPU, and http:// needs none.
            "verify": True if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        }

    def limits(self, timeout_seconds: float | None) -> tuple[float, float | None]:
        """Seconds until there is a connection, and between two chunks of a response."""
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        return min(CONNECT_SECONDS, seconds), None if math.isinf(seconds) else seconds

    def timeout(self, timeout_seconds: float | None) -> "httpx.Timeout":
        import httpx

        connect, other = self.limits(timeout_seconds)
        return httpx.Timeout(other, connect=connect)

    def request_arguments(self, request: Request) -> dict[str, Any]:
        """The arguments of httpx's `build_request`."""
        headers = {"content-type": request.media_type} if request.media_type else {}
        return {
            "method": request.method,
            "url": request.path,
            "params": dict(request.query),
            "json": request.body,
            "content": request.content,
            "files": request.files,
            "data": request.fields,
            "headers": {**headers, **request.headers},
            "timeout": self.timeout(request.timeout_seconds),
        }

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raises httpx's errors as NoAnswer."""
        import httpx

        try:
            yield
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
            raise self.no_answer(error) from error

    def no_answer(self, error: "httpx.HTTPError | httpx.InvalidURL") -> NoAnswer:
        import httpx

        kind = UploadBroken if isinstance(error, httpx.WriteError) else NoAnswer
        reason = _ERROR_NUMBER.sub("", str(error))
        return kind(self.base_url, reason or type(error).__name__)


def _is_valid(url: str) -> bool:
    import httpx

    try:
        _ = urlsplit(url).port  # refuses some hosts and ports that httpx accepts
        parsed = httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        return False
    return parsed.scheme in {"http", "https"} and bool(parsed.host)


def parse_success(response: Answer) -> Response:
    """Parse a response that has been read. Raises ApiError and UnexpectedAnswer."""
    if response.is_error:
        raise api_error(response)
    if not response.content:
        return Response(response.status_code, {})
    try:
        content = json.loads(response.content)
    except ValueError:
        content = None
    return parse_response(response.status_code, content)


def api_error(response: Answer) -> ApiError:
    """The error of problem details, or of OpenAI's format, which vLLM's routes use."""
    try:
        problem = json.loads(response.content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or _openai_message(problem) or problem.get("title")
    kind = BY_STATUS.get(response.status_code, ApiError)
    return kind(
        response.status_code,
        _text(problem.get("code")),
        _text(detail) or response.reason_phrase,
        retry_after_seconds=_seconds(response.headers.get("retry-after")),
        problem=problem,
    )


def _openai_message(problem: dict[str, Any]) -> object:
    error = problem.get("error")
    return error.get("message") if isinstance(error, dict) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None
