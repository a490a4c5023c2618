"""Grammars: what vLLM would make of the structured outputs that a request wants."""
