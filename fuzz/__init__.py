"""Looks for input that hurts: requests, adapters, headers, references. `make fuzz` runs it."""
