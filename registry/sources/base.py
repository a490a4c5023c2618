"""Source protocol: brings an adapter's files into a folder, within limits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAX_FIELDS_BYTES = 2**20
"""Most that an upload's fields, names and boundaries add to its files."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """For one adapter. `max_files` counts whatever stands in an archive or an upload."""

    max_bytes: int
    max_files: int = 1000


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """`hash` is blake3, as 64 hexadecimal digits."""

    name: str
    size_bytes: int
    hash: str


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """What was fetched. `revision` says which state of the source it was, if that has a name."""

    files: tuple[FetchedFile, ...]
    revision: str | None = None


class Stopped(Exception):
    """Raised inside a fetch that nobody waits for any more."""


class Progress:
    """How far a fetch is. Its thread writes, others read or ask it to stop."""

    def __init__(self) -> None:
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self._stopped = False

    def expect(self, more_bytes: int) -> None:
        """Announce bytes whose number is known before they come."""
        self.bytes_total = (self.bytes_total or 0) + more_bytes

    def advance(self, more_bytes: int) -> None:
        """Count what has come. Raises Stopped."""
        if self._stopped:
            raise Stopped
        self.bytes_done += more_bytes

    def stop(self) -> None:
        self._stopped = True


class Source(Protocol):
    """One place to fetch one adapter from."""

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """Write the adapter's files, and nothing else, into the empty folder `into`.

        Raises InvalidSource, SourceNotAllowed, SourceDenied, SourceNotFound, SourceTooLarge,
        SourceUnsupported, SourceUnavailable, InvalidAdapter (`unsafe_file` and the like), or
        OSError if the folder can't be written to.
        """
