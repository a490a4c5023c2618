"""Fuzzing of requests, adapters, headers and references. `make fuzz` runs it."""
