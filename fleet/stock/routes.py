"""Routes of a stock server that are passed on: those that generate, and a few that only read."""

GENERATING = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
        *("/v1/embeddings", "/tokenize", "/detokenize", "/pooling", "/classify", "/score"),
        *("/v1/score", "/rerank", "/v1/rerank"),
    }
)
READ = frozenset({"/health", "/version", "/openapi.json"})
