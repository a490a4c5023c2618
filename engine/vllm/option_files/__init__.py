"""Files and modules that vLLM's options name, read before an engine starts."""
