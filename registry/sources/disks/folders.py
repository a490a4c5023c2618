"""Folders to register from: what a path leads to, and whose share of which disk a look at it is."""

import os
from collections.abc import Sequence
from pathlib import Path

from registry.errors import SourceNotFound
from registry.sources.disks.mounts import mount_of
from registry.sources.disks.reads import Share


def resolve(path: Path) -> tuple[Path, bool]:
    """The path without links, and whether it is a folder. Raises SourceNotFound."""
    try:
        found = os.path.realpath(path)
    except ValueError:  # a NUL or a lone surrogate
        raise SourceNotFound("the source is no path") from None
    return Path(found), os.path.isdir(found)  # unlike Path.is_dir, False for a name too long


def share_of(path: Path, roots: Sequence[Path], tenant: str | None) -> Share:
    """Nothing is read from the path's disk. Of the platform's folders each has a share, so that a
    link to a disk that hangs holds up only what is below it.
    """
    plain = Path(os.path.normpath(path))
    return Share(mount_of(str(plain)), tenant or _owner_of(plain, roots))


def _owner_of(path: Path, roots: Sequence[Path]) -> str:
    """The folder in a root that the path is in; as it begins with a slash, it is no tenant."""
    root = next((root for root in roots if path.is_relative_to(root)), Path("/"))
    return str(root.joinpath(*path.relative_to(root).parts[:1]))
