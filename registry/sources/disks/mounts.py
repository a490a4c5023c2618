"""Mounts: which disk a path is on, from the kernel's table, as to ask the disk could hang."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")

_POINT = 4  # the field of the mount point
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")


def mount_of(path: str) -> str:
    """The nearest mount point at or above an absolute path, whose links are not followed.

    "/" where there is no such table.
    """
    return max((each for each in _mount_points() if _is_at(path, each)), key=len, default="/")


def _is_at(path: str, point: str) -> bool:
    return f"{path}/".startswith(f"{point.rstrip('/')}/")


def _mount_points() -> Iterator[str]:
    try:
        lines = TABLE.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > _POINT:
            yield os.fsdecode(_ESCAPED.sub(_unescape, fields[_POINT]))


def _unescape(found: re.Match[bytes]) -> bytes:
    """A blank in a name is `\\040` there."""
    return bytes([int(found[1], 8)])
