"""Response head: what the layers of the server add to a response's headers, by one `send` for all.

A stream calls `send` for each token, and each layer that wraps it would cost each token a call.
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.types import Message, Scope, Send

Pair = tuple[bytes, bytes]
MoreHeaders = Callable[[Sequence[Pair]], Sequence[Pair]]
"""The headers to add to these, which the response has so far."""

_IN_SCOPE = "adaptry.head"
_Adding = tuple[Send, list[MoreHeaders]]


def add_to_head(scope: Scope, send: Send, more: MoreHeaders) -> Send:
    """The `send` for the layers within. `more` is asked once, after those of the inner layers."""
    found: _Adding | None = scope.get(_IN_SCOPE)
    if found is not None and found[0] is send:  # an outer layer's, which does it
        found[1].append(more)
        return send
    layers = [more]

    def send_with_headers(message: Message) -> Awaitable[None]:  # no coroutine for each token
        if message["type"] == "http.response.start":
            scope.pop(_IN_SCOPE, None)  # the server's `send` refers to the scope: a cycle
            headers = list(message.get("headers", ()))
            for layer in reversed(layers):
                headers.extend(layer(headers))
            message = {**message, "headers": headers}
        return send(message)

    scope[_IN_SCOPE] = send_with_headers, layers
    return send_with_headers
