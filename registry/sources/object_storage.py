"""Object storage sources: `s3://bucket/folder`, `gs://bucket/folder`, through s3fs and gcsfs.

Credentials and endpoints come from the packages' own lookup: the environment, the machine's role,
or fsspec's settings.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp

from registry.errors import SourceUnavailable
from registry.inspection.foreign_folders import is_weights
from registry.sources.download import MAX_LISTED, RemoteFile, RemoteSource
from registry.sources.egress_guard import EgressGuard
from registry.sources.extras import import_extra
from registry.sources.http_client import CONNECT_SECONDS, READ_SECONDS, TIMEOUT, GuardedSockets
from registry.sources.urls import SourceUrl

_RANGE_BYTES = 8 * 2**20

# gcsfs also has a class that prefers gRPC, which would bypass the guard; this one does not.
_CLASSES = {"s3": ("s3fs", "S3FileSystem"), "gs": ("gcsfs.core", "GCSFileSystem")}
_EXTRAS = {"s3": "s3", "gs": "gcs"}


def bucket_source(url: SourceUrl, guard: EgressGuard) -> RemoteSource:
    """Raises SourceUnsupported."""
    system_class = _system_class(url.scheme)
    return RemoteSource(
        lambda: _connect(system_class, url, guard), str(url), is_archive=url.is_archive
    )


def _system_class(scheme: str) -> Any:
    module, name = _CLASSES[scheme]
    return getattr(import_extra(module, _EXTRAS[scheme], scheme), name)


@asynccontextmanager
async def _connect(
    system_class: Any, url: SourceUrl, guard: EgressGuard
) -> AsyncIterator["BucketFiles"]:
    sockets = GuardedSockets(guard)
    common = {"asynchronous": True, "skip_instance_cache": True, "use_listings_cache": False}
    if url.scheme == "s3":
        system = system_class(config_kwargs=_s3_options(sockets), **common)
        async with sockets.translate_errors(str(url)):
            client = await system.set_session()
        close = client.close
    else:
        connector = aiohttp.TCPConnector(socket_factory=sockets)
        system = system_class(session_kwargs={"connector": connector}, timeout=TIMEOUT, **common)
        async with sockets.translate_errors(str(url)):
            close = (await system._set_session()).close
    try:
        yield BucketFiles(system, url, sockets)
    finally:
        await close()


def _s3_options(sockets: GuardedSockets) -> dict[str, Any]:
    """For `aiobotocore.config.AioConfig`. No retries here: the job is retried."""
    return {
        "connector_args": {"socket_factory": sockets},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"max_attempts": 1},
    }


class BucketFiles:
    """Implements `RemoteFiles`. Reads in ranges, with bounded memory."""

    def __init__(self, system: Any, url: SourceUrl, sockets: GuardedSockets) -> None:
        self._system = system
        self._url = url
        self._sockets = sockets

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[RemoteFile | None]:
        path = self._path(name)
        info = await self._info(path)
        if info is None:
            yield None
            return
        size_bytes = info.get("size")
        if not isinstance(size_bytes, int):
            raise SourceUnavailable(f"{self._url}: the store does not say the size of a file")
        yield RemoteFile(self._chunks(path, size_bytes, _state(info)), size_bytes, _state(info))

    async def has(self, name: str) -> bool:
        return await self._info(self._path(name)) is not None

    async def weights(self) -> list[str]:
        folder = self._path("").rstrip("/")
        if is_weights(folder):
            return [""]
        try:
            async with self._sockets.translate_errors(str(self._url)):
                listed = await self._first_in(folder)
        except FileNotFoundError:
            return []
        names = (str(entry["name"]).rpartition("/")[2] for entry in listed)
        return sorted(filter(is_weights, names))

    async def _first_in(self, folder: str) -> list[dict[str, Any]]:
        """No more than `MAX_LISTED`: a bucket may hold millions."""
        if self._url.scheme == "gs":
            found = await self._system._list_objects(folder, max_results=MAX_LISTED)
            return list(found)[:MAX_LISTED]  # an emulator may send more
        bucket, _, key = folder.partition("/")
        listed = self._system._iterdir(bucket, prefix=f"{key}/" if key else "")
        first: list[dict[str, Any]] = []
        async with aclosing(listed) as entries:
            async for entry in entries:
                first.append(entry)
                if len(first) == MAX_LISTED:
                    break
        return first

    def _path(self, name: str) -> str:
        folder = f"{self._url.place}{self._url.path}"
        return f"{folder.rstrip('/')}/{name}" if name else folder

    async def _info(self, path: str) -> dict[str, Any] | None:
        """None if there is no such object."""
        try:
            async with self._sockets.translate_errors(str(self._url)):
                info: dict[str, Any] = await self._system._info(path)
        except FileNotFoundError:
            return None
        return info if info.get("type") == "file" else None

    async def _chunks(self, path: str, size_bytes: int, state: str) -> AsyncIterator[bytes]:
        for start in range(0, size_bytes, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size_bytes)
            try:
                async with self._sockets.translate_errors(str(self._url)):
                    chunk: bytes = await self._system._cat_file(path, start=start, end=end)
            except FileNotFoundError:
                raise self._changed_error() from None
            if len(chunk) != end - start:
                raise self._changed_error()
            yield chunk
        info = await self._info(path)
        if info is None or _state(info) != state:
            raise self._changed_error()

    def _changed_error(self) -> SourceUnavailable:
        return SourceUnavailable(f"{self._url} was changed while it was read")


def _state(info: dict[str, Any]) -> str:
    """S3's entity tag or Google's generation: it changes with the content."""
    state = info.get("generation") or info.get("ETag") or info.get("etag") or info.get("size")
    return str(state).strip('"')
