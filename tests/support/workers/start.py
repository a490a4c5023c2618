"""Start of a process of xdist, in place of `python -u -c PROGRAM`: asks the parent for a fork.

Has its standard files, and lives as long as it does. Of a parent that can't be forked, it becomes
that program itself.
"""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FORKED, NOT_FORKED = b"f", b"n"  # the parent's answer


def ask(path: str) -> list[str]:
    """The command that asks the parent at this path; it is given the program besides."""
    return [sys.executable, "-I", "-S", __file__, path]


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """The same file by a path that a socket can have, which is 107 bytes: TMPDIR may be longer."""
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    # Ctrl-C reaches the fork too, which ends by it
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    path, *options, program = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as parent:
        with short_path(path) as short:
            parent.connect(short)
        socket.send_fds(parent, [program.encode()], [0, 1, 2])
        with suppress(ConnectionResetError):  # the parent ended, and had not forked yet
            if parent.recv(1) == NOT_FORKED:
                signal.signal(signal.SIGINT, interrupt)
                os.execv(sys.executable, [sys.executable, *options, program])
            for file in (0, 1):
                os.close(file)
            parent.recv(1)
