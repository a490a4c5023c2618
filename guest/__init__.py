"""Guest: a plugin with which a stock vLLM server resolves and fetches a registry's adapters."""
