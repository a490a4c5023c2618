"""The offline `LLM` class, with adapters by name."""
