"""Settings of a registry: read once for all tests that have the same, as it takes milliseconds."""

from functools import cache

from registry.settings import RegistrySettings


@cache
def read_settings(*allowed_networks: str) -> RegistrySettings:
    return RegistrySettings(allowed_networks=allowed_networks)
