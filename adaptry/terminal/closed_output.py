"""Standard output that can't be written: closed, or on a disk that is full."""

import errno
import io
import os
import select
import sys
from typing import NoReturn

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class ClosedOutput(io.TextIOBase):
    """In place of a standard output that was closed when the command began."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    @property
    def buffer(self) -> NoReturn:
        """What exports write their bytes to."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def is_unwritable(error: OSError) -> bool:
    """Whether this is an error of standard output: a file, or a pipe, may have the same."""
    if isinstance(sys.stdout, ClosedOutput):
        return error.errno == errno.EBADF
    if error.errno not in _FULL:
        return False
    try:  # an empty text would be written to a full disk too
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as again:
        return again.errno == error.errno
    return False


def is_unread() -> bool:
    """Whether what reads the output has ended, as `head` does: the pipe may be another one."""
    if sys.stdout is None or isinstance(sys.stdout, ClosedOutput):
        return False
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in output.poll(0))


def give_up_output() -> None:
    """What is still in its buffer goes nowhere: Python would fail to write it once more."""
    if not isinstance(sys.stdout, ClosedOutput):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
