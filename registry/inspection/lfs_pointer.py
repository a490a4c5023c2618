"""Git LFS pointer: the few lines of text that a clone without Git LFS has instead of a file."""

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect

_MARKS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")

LONGEST_MARK = max(map(len, _MARKS))


def check_no_pointer(start: bytes, name: str) -> None:
    """`start`: the file's first `LONGEST_MARK` bytes or more. Raises InvalidAdapter."""
    if start.startswith(_MARKS):
        detail = f"{name} is a pointer of Git LFS, not the file: run `git lfs pull`"
        raise InvalidAdapter(Defect.LFS_POINTER, detail)
