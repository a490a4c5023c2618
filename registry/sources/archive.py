"""Archive extraction: a tar of a PEFT folder, plain or gzipped, read without trust.

The configuration is looked at before the weights are written, in whatever order they come.

Only headers are decoded by `tarfile`: its reader loads extended headers of any size into memory,
follows chains of them recursively, and searches them with a quadratic pattern (Python 3.11.7).
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.errors import InvalidAdapter, SourceTooLarge
from registry.errors.defects import Defect
from registry.inspection.foreign_folders import START_BYTES, explain_missing_files, is_weights
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.gunzip import ArchiveStream, raise_invalid
from registry.sources.paths import check_path, quote_name
from registry.sources.quarantine import (
    ADAPTER_FILES,
    CHUNK_BYTES,
    TAKEN_FILES,
    BesideFile,
    IncomingFile,
    QuarantineWriter,
)

_BLOCK_BYTES = 512
_MAX_EXTENDED_BYTES = 64 * 1024
_MAX_EXTENDED_IN_A_ROW = 8

_REGULAR = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
_SKIPPED = frozenset({tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK})
_KINDS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(slots=True)
class _Member:
    name: str
    kind: bytes
    size_bytes: int


def extract(
    archive: Path, into: Path, limits: FetchLimits, progress: Progress, *, has_config: bool = False
) -> FetchedSource:
    """Extract the adapter's files; others are skipped. Blocks.

    `has_config`: the configuration was in another archive, and this one must not hold it too.

    Raises InvalidAdapter (`archive_invalid`, `unsafe_file`, `unsafe_path`), SourceTooLarge,
    TenantLimit, Stopped, and what the limits' check of the configuration raises.
    """
    writer = QuarantineWriter(into, limits, progress)
    written: set[str] = set()
    seen = {CONFIG_FILE} if has_config else set[str]()
    names: set[str] = set()
    training = _TrainingFiles(writer)
    adapter_folder = None
    for entry in _entries(archive, limits, progress):
        folder, _, name = entry.name.rpartition("/")
        names.add(name)
        if name in seen:
            raise_invalid(f"it holds {name} twice: send the folder of one adapter")
        if name in ADAPTER_FILES:
            seen.add(name)
        if name in TAKEN_FILES:
            adapter_folder = folder
        if name == CONFIG_FILE or (name == WEIGHTS_FILE and CONFIG_FILE in seen):
            writer.expect(entry.size_bytes)
            entry.copy(writer.open(name))
            written.add(name)
        elif name in TRAINING_FILES:
            entry.copy(training.open(folder, name))
        if name == CONFIG_FILE:
            writer.check_config()
    training.keep(adapter_folder)
    if seen.issuperset(TAKEN_FILES) and WEIGHTS_FILE not in written:  # they came first
        _copy_weights(archive, limits, progress, writer)
    if PICKLE_FILE in seen and WEIGHTS_FILE not in seen:
        writer.mark_pickle()
    elif not seen.issuperset(TAKEN_FILES):
        explain_missing_files(names, _starts(archive, limits, progress))
    return writer.finish()


class _TrainingFiles:
    """Training files by folder: only at the end it is known which one the adapter's is."""

    def __init__(self, writer: QuarantineWriter) -> None:
        self._writer = writer
        self._numbers: dict[str, int] = {}

    def open(self, folder: str, name: str) -> BesideFile:
        number = self._numbers.setdefault(folder, len(self._numbers))
        return self._writer.open_beside(f"{number}-{name}")

    def keep(self, folder: str | None) -> None:
        """Those of the adapter's folder."""
        self._writer.keep_beside(f"{self._numbers.get(folder or '')}-")


def _copy_weights(
    archive: Path, limits: FetchLimits, progress: Progress, writer: QuarantineWriter
) -> None:
    for entry in _entries(archive, limits, progress):
        if entry.name.rpartition("/")[2] == WEIGHTS_FILE:
            writer.expect(entry.size_bytes)
            entry.copy(writer.open(WEIGHTS_FILE))


def _starts(archive: Path, limits: FetchLimits, progress: Progress) -> Iterator[tuple[str, bytes]]:
    """Of the weights in it, whatever their names."""
    for entry in _entries(archive, limits, progress):
        if is_weights(entry.name):
            yield entry.name.rpartition("/")[2], entry.start()


class _Entry:
    """A file in the archive, to be copied or left out."""

    def __init__(self, stream: ArchiveStream, member: _Member) -> None:
        self.name = member.name
        self.size_bytes = member.size_bytes
        self._stream = stream
        self._left = member.size_bytes

    def copy(self, opened: IncomingFile | BesideFile) -> None:
        with opened as target:
            while self._left:
                chunk = self._stream.read(min(self._left, CHUNK_BYTES))
                target.write(chunk)
                self._left -= len(chunk)

    def start(self) -> bytes:
        """Its first bytes, before anything of it was read."""
        start = self._stream.read(min(self._left, START_BYTES))
        self._left -= len(start)
        return start

    def leave(self) -> None:
        """Skip what was not copied, and the padding."""
        self._stream.skip(self._left)
        self._stream.skip(-self.size_bytes % _BLOCK_BYTES)


def _entries(archive: Path, limits: FetchLimits, progress: Progress) -> Iterator[_Entry]:
    with archive.open("rb") as file:
        stream = ArchiveStream(file, limits, progress)
        for member in _members(stream, limits):
            entry = _Entry(stream, member)
            yield entry
            entry.leave()


def _members(stream: ArchiveStream, limits: FetchLimits) -> Iterator[_Member]:
    """Each file in turn; the consumer must read it to its end."""
    count = 0
    while (member := _next(stream)) is not None:
        count += 1
        if count > limits.max_files:
            raise SourceTooLarge(f"the archive holds more than {limits.max_files} files")
        check_path(member.name, "the archive")
        if member.kind in _REGULAR:
            yield member
        elif member.kind != tarfile.DIRTYPE:
            what = _KINDS.get(member.kind, "no regular file")
            detail = f"{quote_name(member.name)} in the archive is {what}"
            raise InvalidAdapter(Defect.UNSAFE_FILE, detail)


def _next(stream: ArchiveStream) -> _Member | None:
    """The next member, with its extended headers applied."""
    records: dict[bytes, bytes] = {}
    extended = 0
    while (header := _header(stream)) is not None:
        if header.type in _PAX:
            records |= _pax_records(_read_extended(stream, header))
        elif header.type == tarfile.GNUTYPE_LONGNAME:
            records[b"path"] = _read_extended(stream, header).rstrip(b"\0")
        elif header.type in _SKIPPED:
            _read_extended(stream, header)
        else:
            return _to_member(header, records)
        extended += 1
        if extended > _MAX_EXTENDED_IN_A_ROW:
            raise_invalid("its headers follow each other without a file")
    return None


def _header(stream: ArchiveStream) -> tarfile.TarInfo | None:
    block = stream.read_up_to(_BLOCK_BYTES)
    if not block or not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise_invalid("it is not a tar, or cut off")


def _read_extended(stream: ArchiveStream, header: tarfile.TarInfo) -> bytes:
    if not 0 <= header.size <= _MAX_EXTENDED_BYTES:
        raise_invalid("a header in it is too long")
    content = stream.read(header.size)
    stream.skip(-header.size % _BLOCK_BYTES)
    return content


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """Records are `LENGTH KEY=VALUE\\n`, where the length includes itself."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(content):
        digits, _, _ = content[position : position + 8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = content[position : position + length]
        key, equals, value = record.partition(b"=")
        if len(record) < length or not equals or not value.endswith(b"\n"):
            raise_invalid("a header in it can't be read")
        records[key.partition(b" ")[2]] = value[:-1]
        position += length
    return records


def _to_member(header: tarfile.TarInfo, records: dict[bytes, bytes]) -> _Member:
    if any(key.startswith(b"GNU.sparse.") for key in records):
        header.type = tarfile.GNUTYPE_SPARSE
    size_bytes = header.size
    if (digits := records.get(b"size")) is not None:
        size_bytes = int(digits) if digits.isdigit() and len(digits) < 19 else -1
    if size_bytes < 0:
        raise_invalid("a file in it has no size")
    name = records[b"path"].decode(errors="replace") if b"path" in records else header.name
    return _Member(name, header.type, size_bytes)
