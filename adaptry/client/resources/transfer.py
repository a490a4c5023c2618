"""`client.transfer`: a whole registry, from one place to another."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from adaptry.client.errors import InvalidSource
from adaptry.client.models import ImportRead, InvalidVersions, OtherAliases
from adaptry.client.transport.operations import Group, download, flow, read
from adaptry.client.transport.requests import FOR_EVER, Flow, Given, Request

S_co = TypeVar("S_co", covariant=True)

CHUNK_BYTES = 2**20


class Transfer(Group[S_co]):
    """Export and import."""

    @download("/api/v1/export")
    def export(self, adapters: Sequence[str] = ()) -> Given:
        """Adapters, versions, aliases, history, events and files as the chunks of a tar.

        `with client.transfer.export() as chunks: …`. Raises NoAnswer also when it breaks off.
        """
        return Given(query={"adapter": adapters})

    @flow("POST", "/api/v1/import")
    def import_archive(
        self,
        archive: Path | Iterable[bytes] | AsyncIterable[bytes],
        *,
        aliases: OtherAliases = "keep",
        invalid: InvalidVersions = "refuse",
        dry_run: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Flow[ImportRead]:
        """Take in what `export` gave, here or elsewhere: all of it, or nothing.

        `archive`: a tar's path or its chunks (those of an AsyncIterable: with `AsyncClient` only).
        `on_bytes` is told how much of a path or an Iterable has been sent.
        """
        chunks = _chunks_of(archive) if isinstance(archive, Path) else archive
        if isinstance(chunks, Iterable):
            chunks = _counted(chunks, on_bytes)
        reply = yield Request(
            "POST",
            "/api/v1/import",
            query={"aliases": aliases, "invalid": invalid, "dry_run": dry_run},
            content=chunks,
            media_type="application/x-tar",
            patience_seconds=FOR_EVER,
        )
        return read(ImportRead, reply.content)


def _chunks_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InvalidSource(f"{path} can't be read: {error.strerror}") from error


def _counted(chunks: Iterable[bytes], on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if on_bytes is not None:
            on_bytes(done)
