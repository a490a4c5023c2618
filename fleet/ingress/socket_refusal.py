"""Socket refusal: an ingress passes on no WebSocket, and says so."""

from starlette.types import Message, Scope, Send

from engine.errors import SocketUnsupported
from engine.gateway.openai_errors import send_refusal


async def refuse_socket(scope: Scope, send: Send) -> None:
    """In words where the server can send them: a handshake that is only closed is a bare 403."""
    error = SocketUnsupported()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return

    async def send_to_handshake(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await send_refusal(send_to_handshake, error, path=scope["path"])
