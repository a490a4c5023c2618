"""A stock vLLM server as a guest of a registry: it resolves, fetches and follows our adapters."""
