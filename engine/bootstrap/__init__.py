"""Wiring of a server: registry, cache, telemetry, tenancy, background tasks."""
