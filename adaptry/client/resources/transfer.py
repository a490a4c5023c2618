"""`client.transfer`: export and import of a whole registry."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from adaptry.client.errors import InvalidSource
from adaptry.client.models import ImportRead, InvalidVersions, OtherAliases
from adaptry.client.transport.operations import Resource, download, parse, request_flow
from adaptry.client.transport.requests import NO_TIMEOUT, Parameters, Request, RequestFlow

T_co = TypeVar("T_co", covariant=True)

CHUNK_BYTES = 2**20


class Transfer(Resource[T_co]):
    """Export and import."""

    @download("/api/v1/export")
    def export(self, adapters: Sequence[str] = ()) -> Parameters:
        """Adapters, versions, aliases, history, events and files as the chunks of a tar.

        `with client.transfer.export() as chunks: …`. Raises NoAnswer also if the connection is
        lost.
        """
        return Parameters(query={"adapter": adapters}, timeout_seconds=NO_TIMEOUT)

    @request_flow("POST", "/api/v1/import")
    def import_archive(
        self,
        archive: Path | Iterable[bytes] | AsyncIterable[bytes],
        *,
        aliases: OtherAliases = "keep",
        invalid: InvalidVersions = "refuse",
        dry_run: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> RequestFlow[ImportRead]:
        """Import an archive that `export` wrote: all of it, or nothing.

        `archive`: a tar's path or its chunks (an AsyncIterable only with `AsyncClient`).
        `on_bytes` is called with the bytes sent so far of a path or an Iterable.
        """
        chunks = _read_chunks(archive) if isinstance(archive, Path) else archive
        if isinstance(chunks, Iterable):
            chunks = _count(chunks, on_bytes)
        response = yield Request(
            "POST",
            "/api/v1/import",
            query={"aliases": aliases, "invalid": invalid, "dry_run": dry_run},
            content=chunks,
            media_type="application/x-tar",
            timeout_seconds=NO_TIMEOUT,
        )
        return parse(ImportRead, response.content)


def _read_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InvalidSource(f"{path} can't be read: {error.strerror}") from error


def _count(chunks: Iterable[bytes], on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if on_bytes is not None:
            on_bytes(done)
