"""Download of a version: unpacks the tar into a folder and verifies its digest."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from blake3 import blake3

from adaptry.client.errors import PullFailed, WriteFailed
from registry.storage.integrity import manifest_digest
from registry.storage.tar import ChunkReader

_CHUNK_BYTES = 2**20
_MOST_FILES = 100  # an adapter has two


def unpack_version(chunks: Iterator[bytes], digest: str, folder: Path) -> int:
    """Unpack into a new folder, completely or not at all; its size. Raises PullFailed."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        files = list(_unpack(ChunkReader(chunks), partial))
        if manifest_digest(files) != digest:
            raise PullFailed("the download is not what was registered: its digest differs")
        partial.rename(folder)
    except tarfile.TarError as error:
        raise PullFailed(f"the download is no tar: {error}") from error
    except OSError as error:
        raise WriteFailed(str(folder), error.strerror or str(error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sum(size_bytes for _, size_bytes, _ in files)


def _unpack(reader: ChunkReader, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Each file by name, bytes and hash. Only plain files with plain names are written."""
    with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|") as tar:
        for count, member in enumerate(tar):
            plain = member.isfile() and member.name == os.path.basename(member.name)
            if not plain or member.name in ("", ".", "..") or count >= _MOST_FILES:
                raise PullFailed(f"the download contains {member.name!r}, which no adapter has")
            content = tar.extractfile(member)
            assert content is not None
            yield _write(content, folder / member.name)


def _write(content: IO[bytes], path: Path) -> tuple[str, int, str]:
    hasher, size_bytes = blake3(), 0
    with path.open("xb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            file.write(chunk)
            hasher.update(chunk)
            size_bytes += len(chunk)
    return path.name, size_bytes, hasher.hexdigest()
