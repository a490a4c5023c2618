"""HTTP source: `https://host/folder` or `https://host/adapter.tar.gz`, through fsspec."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL

from registry.errors import SourceUnavailable
from registry.inspection.foreign_folders import is_weights
from registry.sources.download import RemoteFile, RemoteSource
from registry.sources.egress_guard import EgressGuard
from registry.sources.http_client import GuardedSockets, forbid_downgrade, guarded_session
from registry.sources.quarantine import CHUNK_BYTES
from registry.sources.urls import SourceUrl, UrlRules, parse_url

Headers = Mapping[str, str]

_MAX_PAGE_BYTES = 2**20
_SIZE_DIGITS = 19
_LINK = re.compile(rb"""href=["'](?:\./)?([^"'/?#:]{1,1024})["']""", re.IGNORECASE)


def http_source(url: SourceUrl, rules: UrlRules, guard: EgressGuard) -> RemoteSource:
    """Redirects are checked against `rules` too."""
    first = URL(f"{url}?{url.query}" if url.query else str(url), encoded=True)
    check_no_downgrade = forbid_downgrade(first)

    def may_call(hop: URL) -> None:
        check_no_downgrade(hop)
        rules.check(parse_url(str(hop)))

    def address(name: str) -> URL:
        path = f"{url.path.rstrip('/')}/{name}" if name else url.path
        return URL.build(
            scheme=url.scheme,
            authority=url.place,
            path=path,
            query_string=url.query,
            encoded=True,
        )

    return RemoteSource(
        lambda: connect(address, may_call, guard), str(url), is_archive=url.is_archive
    )


@asynccontextmanager
async def connect(
    address: Callable[[str], URL],
    may_call: Callable[[URL], None],
    guard: EgressGuard,
    headers: Headers | None = None,
    weights: Sequence[str] | None = None,
) -> AsyncIterator["HttpFiles"]:
    """Remote files; `address` maps a name to its URL. `weights`: the folder's, if known."""
    sockets = GuardedSockets(guard)

    async def get_client(**_: Any) -> aiohttp.ClientSession:
        identity = {"Accept-Encoding": "identity", **(headers or {})}
        return guarded_session(sockets, may_call, headers=identity)

    system = HTTPFileSystem(
        asynchronous=True, encoded=True, get_client=get_client, skip_instance_cache=True
    )
    session = await system.set_session()
    try:
        yield HttpFiles(system, address, sockets, weights)
    finally:
        await session.close()


class HttpFiles:
    """Implements `RemoteFiles`."""

    def __init__(
        self,
        system: HTTPFileSystem,
        address: Callable[[str], URL],
        sockets: GuardedSockets,
        weights: Sequence[str] | None = None,
    ) -> None:
        self._weights = weights
        self._system = system
        self._address = address
        self._sockets = sockets

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[RemoteFile | None]:
        url = self._address(name)
        file = await self._system.open_async(str(url), size=0)  # otherwise it requests the size
        try:
            yield await self._start(file, url, is_archive=not name)
        finally:
            await file.close()

    async def _start(self, file: Any, url: URL, *, is_archive: bool) -> RemoteFile | None:
        try:
            async with self._sockets.translate_errors(_display_url(url)):
                first = await file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return None
        headers: Headers = file.r.headers
        encoding = headers.get("Content-Encoding", "identity")
        if encoding != "identity" and not is_archive:
            raise SourceUnavailable(
                f"{_display_url(url)} is sent as {encoding}, which was not requested"
            )
        size = headers.get("Content-Length", "")
        return RemoteFile(
            self._chunks(file, first, _display_url(url)),
            int(size) if size.isascii() and size.isdigit() and len(size) < _SIZE_DIGITS else None,
            headers.get("ETag", "").strip('"') or None,
        )

    async def _chunks(self, file: Any, first: bytes, shown: str) -> AsyncIterator[bytes]:
        chunk = first
        while chunk:
            yield chunk
            async with self._sockets.translate_errors(shown):
                chunk = await file.read(CHUNK_BYTES)

    async def has(self, name: str) -> bool:
        async with self.open(name) as file:
            return file is not None

    async def weights(self) -> Sequence[str]:
        """Of the links in a page that lists the folder, as many servers write it."""
        if self._weights is not None:
            return self._weights
        url = self._address("")
        if is_weights(url.path):
            return [""]
        async with self.open("") as page:
            if page is None:
                return []
            listed = b""
            async for chunk in page.chunks:
                listed += chunk
                if len(listed) >= _MAX_PAGE_BYTES:
                    break
        links = (unescape(found.decode("utf-8", "replace")) for found in _LINK.findall(listed))
        return sorted({link for link in links if is_weights(link)})


def _display_url(url: URL) -> str:
    return str(url.with_query(None))
