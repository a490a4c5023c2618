"""Routes of a stock server that are passed on: those that generate, and a few that only read."""

from starlette.types import Scope

from engine.gateway.model_list import MODELS
from engine.tgi.info import INFO

GENERATING = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
        *("/v1/embeddings", "/tokenize", "/detokenize", "/pooling", "/classify", "/score"),
        *("/v1/score", "/rerank", "/v1/rerank"),
    }
)
_FORWARDED_HEADERS = frozenset(
    {b"content-type", b"accept", b"x-request-id", b"traceparent", b"tracestate"}
)
READ = frozenset({"/health", "/version", "/openapi.json"})


def is_served(method: str, path: str) -> bool:
    """Passed on, or answered in front of it: the list of models, and what TGI's clients ask."""
    if method == "POST":
        return path in GENERATING
    is_read = path in READ or path in (MODELS, INFO) or path.startswith(f"{MODELS}/")
    return method == "GET" and is_read


def request_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Those that are passed on, byte for byte: they may have other characters than ASCII."""
    sent = [(name, value) for name, value in scope["headers"] if name in _FORWARDED_HEADERS]
    return [(b"accept-encoding", b"identity"), *sent]
