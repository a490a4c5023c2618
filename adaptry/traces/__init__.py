"""Traces of arrivals on this machine: read, written, and without the names of tenants."""
