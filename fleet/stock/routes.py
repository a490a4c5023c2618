"""Routes of a stock server that are passed on: those that generate, and a few that only read."""

from engine.gateway.model_list import MODELS
from engine.tgi.info import INFO

GENERATING = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
        *("/v1/embeddings", "/tokenize", "/detokenize", "/pooling", "/classify", "/score"),
        *("/v1/score", "/rerank", "/v1/rerank"),
    }
)
READ = frozenset({"/health", "/version", "/openapi.json"})


def is_served(method: str, path: str) -> bool:
    """Passed on, or answered in front of it: the list of models, and what TGI's clients ask."""
    if method == "POST":
        return path in GENERATING
    is_read = path in READ or path in (MODELS, INFO) or path.startswith(f"{MODELS}/")
    return method == "GET" and is_read
