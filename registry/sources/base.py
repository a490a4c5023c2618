"""Source protocol: brings an adapter's files into a folder, within limits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from registry.errors import RegistryError, SourceTooLarge, TenantLimit
from registry.errors.access import Limit
from registry.inspection.training_files import MAX_FILE_BYTES
from registry.sources.beside import MAX_TRAINING_BYTES

MAX_FIELDS_BYTES = 2**20
"""Maximum size of an upload's fields, names and boundaries, beyond its files."""

MAX_REVISION = 256

MAX_UNCOUNTED_BYTES = MAX_FIELDS_BYTES + MAX_TRAINING_BYTES
"""Maximum size of an upload's body beyond the adapter's own files."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits per adapter. `max_files` counts all entries of an archive or upload.

    `tenant` has no room for more than `tenant_bytes`: no more is written.
    `max_training_file_bytes`: a larger training file counts as absent, with a remark.
    `check_config` looks at a folder with the configuration alone, before the weights are fetched
    or unpacked, and raises InvalidAdapter if it makes them worthless.
    """

    max_bytes: int
    max_files: int = 1000
    tenant: str | None = None
    tenant_bytes: int | None = None
    max_training_file_bytes: int = MAX_FILE_BYTES
    check_config: Callable[[Path], None] | None = None

    @property
    def written_bytes(self) -> int:
        """How much may be written for the adapter."""
        return min(
            self.max_bytes, self.max_bytes if self.tenant_bytes is None else self.tenant_bytes
        )

    def excess(self) -> RegistryError:
        """The error for an adapter that is larger than what may be written."""
        if self.tenant_bytes is None or self.tenant_bytes >= self.max_bytes:
            return SourceTooLarge(f"the adapter is larger than {self.max_bytes} bytes")
        room = f"the tenant {self.tenant} has no room for more than {self.tenant_bytes} bytes"
        return TenantLimit(Limit.STORAGE_BYTES, f"{room}: the adapter is larger")


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """`hash` is blake3, as 64 hexadecimal digits."""

    name: str
    size_bytes: int
    hash: str


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """Fetched files. `revision` identifies the source's state, if it has an identifier.

    `remarks`: (code, detail) of what was changed in the files, for the inspection's report.
    """

    files: tuple[FetchedFile, ...]
    revision: str | None = None
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def stored_revision(self) -> str | None:
        """As every database can store it: a server may send anything as an entity tag."""
        if self.revision is None:
            return None
        text = self.revision.encode(errors="replace").decode().replace("\0", "")
        return text[:MAX_REVISION] or None


class Stopped(Exception):
    """Raised inside a fetch that was cancelled."""


class Progress:
    """Progress of a fetch. Its thread writes; others read it or request a stop."""

    def __init__(self) -> None:
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self._stopped = False

    def expect(self, more_bytes: int) -> None:
        """Announce bytes before they arrive."""
        self.bytes_total = (self.bytes_total or 0) + more_bytes

    def advance(self, more_bytes: int) -> None:
        """Count received bytes. Raises Stopped."""
        if self._stopped:
            raise Stopped
        self.bytes_done += more_bytes

    def stop(self) -> None:
        self._stopped = True


class UncountedProgress(Progress):
    """Of bytes that were counted before, when they were downloaded. Stops with that fetch."""

    def __init__(self, fetch: Progress) -> None:
        super().__init__()
        self._fetch = fetch

    def advance(self, more_bytes: int) -> None:
        """Raises Stopped."""
        self._fetch.advance(0)


class Source(Protocol):
    """A source of one adapter."""

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """Write the adapter's files, and nothing else, into the empty folder `into`.

        Raises InvalidSource, SourceNotAllowed, SourceDenied, SourceNotFound, SourceTooLarge,
        SourceUnsupported, SourceUnavailable, InvalidAdapter (`unsafe_file` and the like), or
        OSError if the folder can't be written to.
        """
