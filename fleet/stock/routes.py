"""Routes of a stock server that are passed on: what they need of an adapter, if anything."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from engine.errors import ResponseUnsupported
from engine.gateway.model_list import MODELS
from engine.gateway.request_body import RequestBody
from engine.tgi.info import INFO

RESPONSES = "/v1/responses"
GENERATING = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", RESPONSES, "/v1/messages"),
        *("/v1/embeddings", "/pooling", "/classify"),
        *("/score", "/v1/score", "/rerank", "/v1/rerank"),
    }
)
"""With an adapter, which is leased for it."""
TOKENIZING = frozenset({"/tokenize", "/detokenize"})
"""All adapters have the base model's tokenizer: none is needed for it."""
_FORWARDED_HEADERS = frozenset(
    {b"content-type", b"accept", b"x-request-id", b"traceparent", b"tracestate"}
)
READ = frozenset({"/health", "/version", "/openapi.json"})


def check_response(path: str, members: Mapping[str, Any]) -> None:
    """Raises ResponseUnsupported: the lease would end before the server's work, and any tenant
    could go on with what another's conversation has stored.
    """
    if path != RESPONSES:
        return
    for member in ("background", "previous_response_id"):
        if members.get(member):
            raise ResponseUnsupported(member)


def for_base_model(body: RequestBody, name: str) -> RequestBody:
    """The same request, to the base model."""
    return RequestBody(json.dumps({**body.members, "model": name}).encode())


def is_served(method: str, path: str) -> bool:
    """Passed on, or answered in front of it: the list of models, and what TGI's clients ask."""
    if method == "POST":
        return path in GENERATING | TOKENIZING
    is_read = path in READ or path in (MODELS, INFO) or path.startswith(f"{MODELS}/")
    return method == "GET" and is_read


def request_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Those that are passed on, byte for byte: they may have other characters than ASCII."""
    sent = [(name, value) for name, value in scope["headers"] if name in _FORWARDED_HEADERS]
    return [(b"accept-encoding", b"identity"), *sent]
