"""Azure source: `azure://container/folder`, through Azure's own client (the extra `azure`).

The storage account and its credentials are the server's, from the variables that adlfs reads too:
AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or
AZURE_STORAGE_SAS_TOKEN; without these, whatever azure-identity finds (a managed identity, say).

Not through adlfs itself (2026.8): its connections can't be guarded, and each of its file systems
stays in memory until the process ends.
"""

import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from registry.errors import InvalidSource, SourceDenied, SourceUnavailable
from registry.inspection.foreign_folders import MAX_STARTS, is_weights
from registry.sources.download import MAX_LISTED, RemoteFile, RemoteSource
from registry.sources.egress_guard import EgressGuard
from registry.sources.http_client import CONNECT_SECONDS, READ_SECONDS, GuardedSockets
from registry.sources.urls import SourceUrl

_RANGE_BYTES = 8 * 2**20
_CONTAINER = re.compile(r"(?=.{3,63}$)\$?[a-z0-9]+(-[a-z0-9]+)*")


def open_source(url: SourceUrl, guard: EgressGuard) -> RemoteSource:
    """Raises InvalidSource."""
    if "@" in url.place:
        raise InvalidSource(
            "azure://CONTAINER/PATH names no storage account: that is the server's own "
            "(AZURE_STORAGE_ACCOUNT_NAME)"
        )
    if not _CONTAINER.fullmatch(url.place):
        raise InvalidSource(f"{url.place[:80]!r} is no name of a container")
    return RemoteSource(lambda: _connect(url, guard), str(url), is_archive=url.is_archive)


@asynccontextmanager
async def _connect(url: SourceUrl, guard: EgressGuard) -> AsyncIterator["AzureFiles"]:
    sockets = GuardedSockets(guard)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(socket_factory=sockets),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        )
        transport = AioHttpTransport(
            session=session,
            session_owner=False,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
        )
        service = await _service(stack, str(url), transport)
        yield AzureFiles(await stack.enter_async_context(service), url, sockets)


async def _service(stack: AsyncExitStack, shown: str, transport: AioHttpTransport) -> Any:
    """No retries here: the job is retried. Raises SourceDenied."""
    options: dict[str, Any] = {
        "transport": transport,
        "retry_total": 0,
        "permit_redirects": False,
        "max_single_get_size": _RANGE_BYTES,
        "max_chunk_get_size": _RANGE_BYTES,
    }
    connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    try:
        if connection:
            return BlobServiceClient.from_connection_string(connection, **options)
        if account:
            where = f"https://{account}.blob.core.windows.net"
            credential = await _credential(stack, account)
            return BlobServiceClient(where, credential=credential, **options)
    except ValueError:  # its text could hold a part of the secret
        raise SourceDenied(f"{shown} can't be read with what AZURE_STORAGE_… hold") from None
    raise SourceDenied(
        f"{shown} wants credentials: set AZURE_STORAGE_CONNECTION_STRING, or "
        "AZURE_STORAGE_ACCOUNT_NAME, for the server"
    )


async def _credential(
    stack: AsyncExitStack, account: str
) -> AzureNamedKeyCredential | AzureSasCredential | DefaultAzureCredential | None:
    if key := os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        return AzureNamedKeyCredential(account, key)
    if signature := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        return AzureSasCredential(signature)
    if os.environ.get("AZURE_STORAGE_ANON", "").lower() in ("1", "true", "t", "yes"):
        return None
    return await stack.enter_async_context(DefaultAzureCredential())


class AzureFiles:
    """Implements `RemoteFiles`. Reads in ranges, all of one state of the blob."""

    def __init__(self, service: BlobServiceClient, url: SourceUrl, sockets: GuardedSockets) -> None:
        self._service = service
        self._url = url
        self._sockets = sockets

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[RemoteFile | None]:
        blob = self._blob(name)
        found = await self._properties(blob)
        if found is None:
            yield None
            return
        if (found.content_settings.content_encoding or "identity") != "identity":
            raise InvalidSource(  # the client would expand it, to any size
                f"{self._url} holds a file that is stored with a Content-Encoding"
            )
        state = str(found.etag).strip('"')
        yield RemoteFile(self._chunks(blob, found), found.size, state)

    async def has(self, name: str) -> bool:
        return await self._properties(self._blob(name)) is not None

    async def weights(self) -> list[str]:
        folder = self._url.path.removeprefix("/").rstrip("/")
        if is_weights(folder):
            return [""]
        prefix = f"{folder}/" if folder else ""
        found, listed = list[str](), 0
        with suppress(FileNotFoundError):  # there is no such container
            async with self._read():
                container = self._service.get_container_client(self._url.place)
                async for blob in container.walk_blobs(prefix):
                    listed += 1
                    if is_weights(blob.name):
                        found.append(blob.name.removeprefix(prefix))
                    if len(found) == MAX_STARTS or listed == MAX_LISTED:
                        break
        return found

    def _blob(self, name: str) -> BlobClient:
        folder = self._url.path.removeprefix("/")
        path = f"{folder.rstrip('/')}/{name}".removeprefix("/") if name else folder
        return self._service.get_blob_client(self._url.place, path)

    async def _properties(self, blob: BlobClient) -> BlobProperties | None:
        """None if there is no such blob, or if it is a folder."""
        try:
            async with self._read():
                found = await blob.get_blob_properties()
        except FileNotFoundError:
            return None
        return None if found.metadata.get("hdi_isfolder") == "true" else found

    async def _chunks(self, blob: BlobClient, found: BlobProperties) -> AsyncIterator[bytes]:
        try:
            async with self._read():
                stream = await blob.download_blob(
                    etag=found.etag, match_condition=MatchConditions.IfNotModified
                )
            chunks = stream.chunks()
            while True:
                async with self._read():
                    chunk = await anext(chunks, b"")
                if not chunk:
                    return
                yield chunk
        except FileNotFoundError:
            raise SourceUnavailable(f"{self._url} was changed while it was read") from None

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[None]:
        """Raises FileNotFoundError if the blob is not there, or not in that state any more."""
        async with self._sockets.translate_errors(str(self._url)):
            try:
                yield
            except (ResourceNotFoundError, ResourceModifiedError):
                raise FileNotFoundError from None
