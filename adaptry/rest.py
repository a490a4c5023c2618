"""The client side of the REST API: one method per call, errors as one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Protocol, Self, cast
from urllib.parse import urlsplit

import httpx

from adaptry.errors import NoServer, Refused, UploadEnded, UsageError
from adaptry.rest_paths import API, adapter_path, alias_path, part

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
Json = dict[str, JsonValue]
Query = Mapping[str, str | int | Sequence[str]]

CREATED, ACCEPTED = int(httpx.codes.CREATED), int(httpx.codes.ACCEPTED)
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class ReadsBytes(Protocol):
    """As much of a file as an upload needs."""

    def read(self, size: int = -1, /) -> bytes: ...

    def fileno(self) -> int: ...


class RestClient:
    """Talks to one server. Closes its connections as a context manager."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(f"{base_url!r} is no server's URL: write http://HOST:PORT")
        self.base_url = base_url.rstrip("/")
        # A proxy of the environment must not stand between us and a server on this machine.
        trust_env = urlsplit(base_url).hostname not in LOOPBACK
        self._http = httpx.Client(
            base_url=self.base_url,
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            transport=transport,
            trust_env=trust_env,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, JsonValue] | None = None,
        query: Query | None = None,
    ) -> tuple[int, Json]:
        """Status and JSON object of a success. Raises NoServer or Refused."""
        return self._send(self._http.build_request(method, path, json=body, params=query))

    def _send(self, request: httpx.Request) -> tuple[int, Json]:
        try:
            response = self._http.send(request)
        except httpx.InvalidURL as error:
            raise NoServer(self.base_url, str(error)) from error
        except httpx.TransportError as error:
            raise NoServer(self.base_url, str(error) or type(error).__name__) from error
        if response.is_error:
            raise _refusal(response)
        return response.status_code, _object(response)

    def is_ready(self) -> bool:
        """Whether /readyz says so; a server that is not there yet is not ready."""
        try:
            return self._http.get("/readyz", timeout=2.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    # ---- adapters ------------------------------------------------------------------------

    def register(self, name: str, source: str, description: str | None) -> tuple[int, Json]:
        """A version and CREATED if it is a new one, or a job and ACCEPTED."""
        body: Json = {"source": source}
        if description is not None:
            body["description"] = description
        return self.call("POST", f"{adapter_path(name)}/versions", body)

    def push(
        self, name: str, files: Sequence[tuple[str, ReadsBytes]], description: str | None
    ) -> Json:
        """The job of an upload; its body is read from the files as it goes."""
        fields = {} if description is None else {"description": description}
        request = self._http.build_request(
            "POST",
            f"{adapter_path(name)}/versions",
            files=[("files", (file_name, cast("IO[bytes]", file))) for file_name, file in files],
            data=fields,
        )
        try:
            return self._send(request)[1]
        except NoServer as error:
            if isinstance(error.__cause__, httpx.WriteError):
                raise UploadEnded from error
            raise

    def version(self, reference: str) -> Json:
        name, _, number = reference.partition(":")
        return self.call("GET", f"{adapter_path(name)}/versions/{part(number)}")[1]

    def jobs(self, state: str | None, adapter: str | None) -> list[Json]:
        conditions = {"state": state, "adapter": adapter}
        query = {key: value for key, value in conditions.items() if value is not None}
        return list(self.pages(f"{API}/jobs", query))

    def job(self, number: str) -> Json:
        return self.call("GET", f"{API}/jobs/{part(number)}")[1]

    def cancel_job(self, number: int) -> Json:
        return self.call("POST", f"{API}/jobs/{number}/cancel")[1]

    def inspect(self, source: str) -> Json:
        """The verdict on these files, which are not registered."""
        return self.call("POST", f"{API}/inspect", {"source": source})[1]

    def adapters(self, query: Query | None = None) -> list[Json]:
        return list(self.pages(f"{API}/adapters", query))

    def adapter(self, name: str) -> Json:
        return self.call("GET", adapter_path(name))[1]

    def versions(self, name: str) -> list[Json]:
        return list(self.pages(f"{adapter_path(name)}/versions"))

    def aliases(self, name: str) -> list[Json]:
        return list(self.pages(f"{adapter_path(name)}/aliases"))

    def move_alias(
        self,
        name: str,
        alias: str,
        version: int,
        expected: int | None,
        reason: str | None,
        preparation: Json | None = None,
    ) -> Json:
        body: Json = {"version": version, "expected_version": expected, **(preparation or {})}
        if reason is not None:
            body["reason"] = reason
        return self.call("PUT", alias_path(name, alias), body)[1]

    def pages(self, path: str, query: Query | None = None) -> Iterator[Json]:
        """The items of all pages."""
        token = ""
        while True:
            asked = {**(query or {}), "page_token": token} if token else query
            page = self.call("GET", path, query=asked)[1]
            yield from items(page)
            token = str(page.get("next_page_token") or "")
            if not token:
                return

    # ---- cache ---------------------------------------------------------------------------

    def cache(self) -> Json:
        return self.call("GET", f"{API}/cache")[1]

    def pin(self, reference: str, tier: str, ttl_seconds: float | None = None) -> Json:
        body: Json = {"reference": reference, "tier": tier, "ttl_seconds": ttl_seconds}
        return self.call("POST", f"{API}/cache/pins", body)[1]

    def pins(self) -> list[Json]:
        return items(self.call("GET", f"{API}/cache/pins")[1])

    def unpin(self, reference: str) -> Json:
        return self.call("DELETE", f"{API}/cache/pins/{part(reference)}")[1]

    def prefetch(self, reference: str) -> Json:
        return self.call("POST", f"{API}/cache/prefetch", {"reference": reference})[1]

    def evict(self, reference: str, *, wait: bool = False, force: bool = False) -> Json:
        body: Json = {"reference": reference, "wait": wait, "force": force}
        return self.call("POST", f"{API}/cache/evict", body)[1]

    # ---- transfer ------------------------------------------------------------------------

    @contextmanager
    def export(self, adapters: Sequence[str]) -> Iterator[Iterator[bytes]]:
        """The chunks of a tar. Raises NoServer, also when it breaks off, and Refused."""
        query = {"adapter": list(adapters)}
        try:
            with self._http.stream("GET", f"{API}/export", params=query, timeout=None) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                yield response.iter_bytes()
        except httpx.TransportError as error:
            raise NoServer(self.base_url, str(error) or type(error).__name__) from error

    def import_archive(self, chunks: Iterator[bytes], query: Query) -> Json:
        """What was changed. Raises NoServer and Refused."""
        headers = {"content-type": "application/x-tar"}
        url, patience = f"{API}/import", httpx.Timeout(None, connect=5.0)
        try:
            response = self._http.post(
                url, content=chunks, params=query, headers=headers, timeout=patience
            )
        except httpx.TransportError as error:
            raise NoServer(self.base_url, str(error) or type(error).__name__) from error
        if response.is_error:
            raise _refusal(response)
        return _object(response)


def items(page: Json, key: str = "items") -> list[Json]:
    """The objects of a list in an answer."""
    value = page.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _object(response: httpx.Response) -> Json:
    """204 has no body; anything else of ours is a JSON object."""
    if not response.content:
        return {}
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise Refused(response.status_code, "", "this server does not speak Adaptry's API")
    return content


def _refusal(response: httpx.Response) -> Refused:
    try:
        problem = _object(response)
    except Refused:
        problem = {}
    detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    return Refused(response.status_code, str(problem.get("code") or ""), detail)
