"""Tokenizing in vLLM's server: what it may cost, and on which threads."""
