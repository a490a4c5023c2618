"""Files of one version as a tar, streamed from the store."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from registry.catalog.catalog import Catalog
from registry.sources.disks.store_threads import STEPS, WORK
from registry.storage.stored_files import check_files
from registry.storage.tar import Entry, tar_chunks


class VersionFiles:
    """Streams a version's files. The client hashes them: their digest is the version's."""

    def __init__(self, catalog: Catalog, path_of: Callable[[str], Path]) -> None:
        self._catalog = catalog
        self._path_of = path_of

    async def tar(self, name: str, number: int) -> AsyncIterator[bytes]:
        """Chunks of a tar with the files in the order of their names.

        Files are verified before the first chunk is sent. Raises UnknownAdapter, UnknownVersion,
        FilesMissing, FilesDamaged, StoreUnavailable.
        """
        published = await self._catalog.version(name, number)
        digest = published.version.digest
        folder = self._path_of(digest)
        await WORK.run(partial(check_files, published.reference, folder, digest))
        files = await STEPS.run(lambda: sorted(folder.iterdir()))
        return _stream(tar_chunks(Entry(file.name, file) for file in files))


async def _stream(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while chunk := await WORK.run(lambda: next(chunks, b"")):
        yield chunk
