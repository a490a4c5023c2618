"""uvicorn's HTTP protocol where it departs from the standard (0.54): upgrades, and HTTP/1.0.

An upgrade that a server can't do is ignored (RFC 9110, 7.8). uvicorn drops the body of such a
request, and reads what follows of it as the next request: Java's client asks for `h2c` with the
first request of each connection. HTTP/1.0 knows no chunks (RFC 9112, 6.1): its body of unknown
length ends with the connection.
"""

import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_UPGRADE, _CONNECT = b"upgrade", b"CONNECT"


class StandardHttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ignores_upgrade = False
        self._after_head: int | None = None  # of a request whose upgrade is ignored

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        while (after := self._after_head) is not None:
            self._after_head = None
            data = self._head_without_upgrade() + data[after:]
            self.parser = httptools.HttpRequestParser(self)  # the other one has ended
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            super().data_received(data)

    def on_headers_complete(self) -> None:
        upgrades = self.parser.should_upgrade() and not self._should_upgrade()
        self._ignores_upgrade = upgrades and self.parser.get_method() != _CONNECT
        if self._ignores_upgrade:
            return
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and not self.parser.should_upgrade():
            self.cycle.__class__ = _CycleUntilClose

    def on_message_complete(self) -> None:
        if not self._ignores_upgrade:
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Called by uvicorn where its parser has ended, for the other protocol to go on."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        self._after_head = upgrade.args[0]

    def handle_websocket_upgrade(self) -> None:
        """Neither answered nor closed by uvicorn is a handshake that its library can't read."""
        super().handle_websocket_upgrade()
        handshake = getattr(self.transport.get_protocol(), "conn", None)
        failed = getattr(handshake, "handshake_exc", None) is not None
        if failed and not self.transport.is_closing():  # it has refused what it could read
            self.send_400_response("a WebSocket begins with a GET without a body, in short lines")

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != _UPGRADE]
        return b"\r\n".join([*lines, b"", b""])


class _CycleUntilClose(RequestResponseCycle):
    """A request of HTTP/1.0, after whose response the connection is closed."""

    _has_length = False

    async def send(self, message: Any) -> None:
        if not self.response_started:
            names = [name.lower() for name, _ in message["headers"]]
            self._has_length = b"content-length" in names
            self.chunked_encoding = None if self._has_length else False
        elif not self._has_length:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
