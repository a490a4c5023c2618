"""An answer from outside the routes: problem details on ours, OpenAI's shape on all others."""

import json
from collections.abc import Iterable

from starlette.types import Scope, Send

from registry.errors import RegistryError
from registry.http.problems import MEDIA_TYPE, problem_content

_OURS = ("/api/", "/metrics", "/healthz", "/readyz")
_KINDS = {401: "authentication_error", 403: "permission_error"}


def route_path(scope: Scope) -> str:
    """Without the prefix under which a proxy has put all of it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def send_refusal(
    scope: Scope,
    send: Send,
    error: RegistryError,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """One whole response."""
    ours = route_path(scope).startswith(_OURS)
    body = json.dumps(_problem(scope, error) if ours else _openai(error)).encode()
    all_headers = [
        (b"content-type", (MEDIA_TYPE if ours else "application/json").encode()),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def _problem(scope: Scope, error: RegistryError) -> dict[str, object]:
    return problem_content(
        path=scope["path"],
        status=error.status,
        code=error.code,
        title=type(error).__name__,
        detail=error.detail,
    )


def _openai(error: RegistryError) -> dict[str, object]:
    kind = _KINDS.get(error.status, "invalid_request_error")
    inner = {"message": error.detail, "type": kind, "param": None, "code": error.code}
    return {"error": inner}
