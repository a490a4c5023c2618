"""Upload source: files or one archive that a client sent to the job's workspace."""

import os
import shutil
from functools import partial
from pathlib import Path

from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.sources.archive import extract
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.local import LocalSource
from registry.sources.quarantine import TAKEN_FILES, QuarantineWriter
from registry.sources.threads import run_in_thread

ARCHIVE = "archive"


class UploadedSource:
    """Implements `Source`. The upload itself is kept, for another attempt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`."""
        return await run_in_thread(partial(self.take, into, limits, progress), progress.stop)

    def take(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """The same, in the caller's thread."""
        archive = self._folder / ARCHIVE
        if archive.exists():
            return extract(archive, into, limits, progress)
        if not self._link(into):
            return LocalSource(self._folder).copy(into, limits, progress)
        writer = QuarantineWriter(into, limits, progress)
        for file in sorted(into.iterdir()):
            writer.adopt(file)
        LocalSource(self._folder).copy_training_files(writer)
        return writer.finish()

    def _link(self, into: Path) -> bool:
        """Hard-link the files instead of copying them; False if the file system can't."""
        names = [name for name in TAKEN_FILES if (self._folder / name).exists()]
        if WEIGHTS_FILE not in names and (self._folder / PICKLE_FILE).exists():
            names.append(PICKLE_FILE)
        try:
            for name in names:
                os.link(self._folder / name, into / name)
        except OSError:
            shutil.rmtree(into)
            into.mkdir()
            return False
        return True
