"""Multipart bodies, streamed to disk: an adapter's files, or one archive of them, and fields."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from registry.errors import InvalidUpload, RegistryError, SourceTimeout, SourceTooLarge
from registry.inspection.safetensors_header import PICKLE_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.base import MAX_FIELDS_BYTES, FetchLimits, Progress
from registry.sources.beside import MAX_TRAINING_BYTES
from registry.sources.disks.store_threads import STEPS, WORK, store_overdue
from registry.sources.paths import check_path
from registry.sources.quarantine import TAKEN_FILES, make_final
from registry.sources.threads import run_to_completion
from registry.sources.upload import ARCHIVE
from registry.sources.urls import ARCHIVES

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_WRITE_BYTES = 2**20


class UploadReceiver:
    """Receives one body; buffers about a megabyte in memory at most."""

    def __init__(
        self, content_type: str, folder: Path, limits: FetchLimits, progress: Progress
    ) -> None:
        """Raises InvalidUpload."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidUpload("send multipart/form-data, with its boundary in Content-Type")
        self._limits = limits
        self._progress = progress
        self._left_bytes = limits.written_bytes + MAX_FIELDS_BYTES
        self._parts = _Parts(folder, limits)
        self._waits_for_store = False  # and not for more of the body
        try:
            self._parser = MultipartParser(options[b"boundary"], self._parts.callbacks())
        except FormParserError as error:
            raise InvalidUpload(f"the body can't be read: {error}") from None

    async def receive(self, body: AsyncIterator[bytes]) -> dict[str, str]:
        """The fields beside the files. Raises InvalidUpload, SourceTooLarge, OSError, Stopped."""
        try:
            async for chunk in body:
                self._progress.advance(len(chunk))
                self._parser.write(chunk)
                self._left_bytes -= len(chunk) - self._parts.take_uncounted()
                if self._left_bytes < 0:
                    raise self._limits.excess()
                if self._parts.waiting_bytes >= _WRITE_BYTES:
                    await self._write()
            await self._write()
        except FormParserError as error:
            raise InvalidUpload(f"the body can't be read: {error}") from None
        finally:
            if self._parts.has_open_file:
                await run_to_completion(STEPS.finish(self._parts.close))
        return self._parts.fields()

    async def _write(self) -> None:
        self._waits_for_store = True
        await WORK.run(self._parts.write)
        self._waits_for_store = False

    def overdue(self, seconds: float) -> RegistryError:
        """What a reception is that took too long."""
        return store_overdue(seconds) if self._waits_for_store else SourceTimeout(seconds)


class _Parts:
    """Parser callbacks: writes an adapter's files to the folder, drops other parts."""

    def __init__(self, folder: Path, limits: FetchLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._waiting: list[Callable[[], object]] = []
        self._file: BinaryIO | None = None
        self._names: set[str] = set()
        self._fields: dict[str, bytearray] = {}
        self._fields_bytes = 0
        self._count = 0
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._take: Callable[[bytes], None] = self._drop
        self._ended = False
        self._training_bytes = 0  # of the file that is being received
        self._uncounted = 0
        self._uncounted_left = MAX_TRAINING_BYTES
        self.waiting_bytes = 0

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._take(bytes(data[start:end])),
            "on_part_end": lambda: self._waiting.append(self._settle),
            "on_end": self._on_end,
        }

    def fields(self) -> dict[str, str]:
        """The form's fields of a complete body. Raises InvalidUpload."""
        if not self._ended:
            raise InvalidUpload("the body is cut off")
        if not self._names - set(TRAINING_FILES):
            wanted = ", ".join(TAKEN_FILES)
            raise InvalidUpload(f"there is no file in it: send {wanted}, or one archive of them")
        if ARCHIVE in self._names and len(self._names) > 1:
            raise InvalidUpload("send either files or one archive")
        try:
            return {name: value.decode() for name, value in self._fields.items()}
        except UnicodeDecodeError:
            raise InvalidUpload("a field is not UTF-8") from None

    def take_uncounted(self) -> int:
        """How much of what was parsed since the last call is no part of the adapter's files."""
        taken, self._uncounted = min(self._uncounted, self._uncounted_left), 0
        self._uncounted_left -= taken
        return taken

    # ---- called by the parser, on the event loop -----------------------------------------

    def _on_part_begin(self) -> None:
        self._count += 1
        if self._count > self._limits.max_files:
            raise SourceTooLarge(f"the upload holds more than {self._limits.max_files} parts")
        self._disposition = b""

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" in options:
            self._begin_file(options[b"filename"].decode(errors="replace"))
        elif name in self._fields or not name:
            raise InvalidUpload(f"the field {name[:80]!r} is nameless or stands twice")
        else:
            self._fields[name] = bytearray()
            self._take = lambda data: self._add(name, data)

    def _begin_file(self, path: str) -> None:
        check_path(path, "the upload")
        name = path.rpartition("/")[2]
        if name.lower().endswith(ARCHIVES):
            name = ARCHIVE
        elif name not in (*TAKEN_FILES, PICKLE_FILE, *TRAINING_FILES):
            self._take = self._drop
            return
        if name in self._names:
            raise InvalidUpload(f"{path[-80:]!r}: one file of a kind, please")
        self._names.add(name)
        self._waiting.append(lambda: self._open(name))
        self._training_bytes = 0
        if name in TRAINING_FILES:
            self._take = self._keep_training
        else:
            self._take = self._drop if name == PICKLE_FILE else self._keep

    def _add(self, name: str, data: bytes) -> None:
        self._fields_bytes += len(data)
        if self._fields_bytes > MAX_FIELDS_BYTES:
            raise InvalidUpload(f"the fields are over {MAX_FIELDS_BYTES} bytes")
        self._fields[name] += data

    def _keep(self, data: bytes) -> None:
        self.waiting_bytes += len(data)
        self._waiting.append(lambda: self._file.write(data) if self._file else None)

    def _keep_training(self, data: bytes) -> None:
        """Up to the limit and one byte more: so it is seen that there was more."""
        self._uncounted += len(data)
        room = self._limits.max_training_file_bytes + 1 - self._training_bytes
        self._training_bytes += len(data)
        if room > 0:
            self._keep(data[:room])

    def _drop(self, data: bytes) -> None:
        """Ignore content that is not part of an adapter, or a pickle, which is never read."""

    def _on_end(self) -> None:
        self._ended = True

    # ---- called in a thread --------------------------------------------------------------

    def write(self) -> None:
        """Write the buffered data. Raises OSError."""
        for step in self._waiting:
            step()
        self._waiting.clear()
        self.waiting_bytes = 0

    @property
    def has_open_file(self) -> bool:
        return self._file is not None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self, name: str) -> None:
        self._file = (self._folder / name).open("xb")

    def _settle(self) -> None:
        if self._file is not None:
            self._file.flush()
            make_final(self._file.fileno())
            self._file.close()
            self._file = None
