"""Routes of a stock server that are passed on: those that generate, and a few that only read."""

from starlette.datastructures import Headers
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
_FORWARDED_HEADERS = ("content-type", "accept", "x-request-id", "traceparent", "tracestate")
READ = frozenset({"/health", "/version", "/openapi.json"})


def is_served(method: str, path: str) -> bool:
    """Passed on, or answered in front of it: the list of models, and what TGI's clients ask."""
    if method == "POST":
        return path in GENERATING
    is_read = path in READ or path in (MODELS, INFO) or path.startswith(f"{MODELS}/")
    return method == "GET" and is_read


def request_headers(scope: Scope) -> dict[str, str]:
    """Those that are passed on."""
    sent = Headers(scope=scope)
    return {"accept-encoding": "identity"} | {n: sent[n] for n in _FORWARDED_HEADERS if n in sent}
