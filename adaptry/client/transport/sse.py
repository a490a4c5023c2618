"""Server-Sent Events (WHATWG HTML, section 9.2): the client's parser and its reconnection rules."""

import re
import time
from collections.abc import Iterator

from adaptry.client.errors import AdaptryError

ALIVE_SECONDS = 60.0  # the server sends at least a comment every 15 s
GIVE_UP_SECONDS = 60.0
DONE = "[DONE]"  # the last event of a stream that has an end
BROKEN_OFF = "the stream broke off before its end"
_FIRST_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 30.0
_MAX_LINE_BYTES = 2**24
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class EventReader:
    """Parses chunks of bytes into the data of events, and decides when to reconnect."""

    def __init__(self, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        self._give_up_seconds = give_up_seconds
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._last_id = ""
        self._buffer = bytearray()
        self._searched_bytes = 0
        self._data: list[str] = []
        self._next_id = ""
        self._lost: float | None = None
        self._was_connected = False

    def headers(self) -> dict[str, str]:
        """The headers of the next connection."""
        resumed = {"last-event-id": self._last_id} if self._last_id else {}
        return {"accept": "text/event-stream", "cache-control": "no-store", **resumed}

    def connected(self) -> None:
        self._was_connected = True
        self._lost = None
        self._buffer.clear()
        self._searched_bytes = 0
        self._data = []
        self._next_id = self._last_id

    def pause_seconds(self, error: AdaptryError | None) -> float:
        """The delay before the next attempt. Raises the error if it is time to give up."""
        now = time.monotonic()
        self._lost = now if self._lost is None else self._lost
        too_long = now - self._lost >= self._give_up_seconds
        if error is not None and (too_long or not self._was_connected):
            raise error
        return min(self._retry_seconds, _LONGEST_RETRY_SECONDS)

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of each complete event."""
        self._buffer += chunk
        for line in self._complete_lines():
            data = self._take(line.decode("utf-8", errors="replace"))
            if data is not None:
                yield data
        if len(self._buffer) > _MAX_LINE_BYTES:
            raise AdaptryError("the stream has a line that is too long")

    def _complete_lines(self) -> list[bytes]:
        """Taken from the buffer. Each byte is read one time, however long its line is."""
        lines, begin = [], 0
        for end in _LINE_END.finditer(self._buffer, self._searched_bytes):
            lines.append(bytes(self._buffer[begin : end.start()]))
            begin = end.end()
        del self._buffer[:begin]
        self._searched_bytes = max(len(self._buffer) - 1, 0)  # the last may be half of "\r\n"
        return lines

    def _take(self, line: str) -> str | None:
        """The event's data if this line ends an event that has any."""
        if not line:
            data, self._data = self._data, []
            self._last_id = self._next_id
            return "\n".join(data) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._next_id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            self._retry_seconds = int(value) / 1000
        return None
