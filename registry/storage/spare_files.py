"""Spare files: empty ones that were locks, kept to become the next ones.

A registration has two locks. To create their files and delete them again costs a file system more
than to give one another name: ext4 without a journal looks at each file that was deleted within the
last minute before it creates one, which took a fifth of the CPU of thousands of small uploads.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

MOST_SPARE = 64


class SpareFiles:
    """Of one process, in a folder of one file system. Without any, files are created as ever."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spare: list[Path] = []  # whose `pop` and `append` threads may call

    def open(self) -> None:
        """Those of a process that has ended are deleted. Of one that runs too: it makes others."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            left.unlink(missing_ok=True)

    def remove(self, path: Path) -> Path | None:
        """Remove a file. Where it is now, if it is to be used again. Raises OSError."""
        if len(self._spare) >= MOST_SPARE:
            path.unlink(missing_ok=True)
            return None
        spare = self._folder / secrets.token_hex(8)
        try:
            path.rename(spare)
        except FileNotFoundError:  # it is removed, or there is no such folder
            path.unlink(missing_ok=True)
            return None
        return spare

    def add(self, spare: Path) -> None:
        """To be used again, by any caller from now on."""
        self._spare.append(spare)

    def put(self, path: Path) -> bool:
        """Let a spare file be there, unless there is none, or one is there already."""
        try:
            spare = self._spare.pop()
        except IndexError:
            return False
        try:
            os.link(spare, path)
        except FileExistsError:
            self._spare.append(spare)
            return False
        except OSError:  # it was removed, or the file system has no hard links
            is_there = False
        else:
            is_there = True
        with suppress(OSError):
            spare.unlink()
        return is_there
