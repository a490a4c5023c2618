"""Start of a process of xdist, in place of `python -u -c PROGRAM`: asks the parent for a fork.

Has its standard files, and lives as long as it does.
"""

import os
import signal
import socket
import sys
from contextlib import suppress


def ask(path: str) -> list[str]:
    """The command that asks the parent at this path; it is given the program besides."""
    return [sys.executable, "-I", "-S", __file__, path]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the fork too, which ends by it
    path, *_, program = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as parent:
        parent.connect(path)
        socket.send_fds(parent, [program.encode()], [0, 1, 2])
        for file in (0, 1):
            os.close(file)
        with suppress(ConnectionResetError):  # the parent ended, and had not forked yet
            parent.recv(1)
