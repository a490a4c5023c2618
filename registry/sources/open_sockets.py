"""Open sockets of a fetch in a thread, which a cancellation may end.

A timeout for each read is no end: a server that sends a byte from time to time holds the thread.
"""

import socket
from contextlib import suppress
from threading import Lock
from weakref import WeakSet


class OpenSockets:
    """Thread-safe."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = Lock()
        self._ended = False

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.add(opened)
            if self._ended:
                _end(opened)

    def end(self) -> None:
        """End these connections, and all that are opened from now on."""
        with self._lock:
            self._ended = True
            for opened in self._sockets:
                _end(opened)


def _end(opened: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(opened, socket.SHUT_RDWR)  # TLS would forget itself within a read
