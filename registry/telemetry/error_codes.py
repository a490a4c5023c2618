"""Error codes of the registry: a closed set, for metrics labels."""

from collections.abc import Iterator

from registry.errors import RegistryError
from registry.errors.defects import Defect
from registry.models import VersionState

OTHER_CODES = "_other"

# Further codes of failed jobs, and of an operator's quarantine.
_MORE = ("ingest_interrupted", "upload_interrupted", "internal_error", "operator")


def registry_codes() -> frozenset[str]:
    of_versions = (f"version_{state}" for state in VersionState)
    return frozenset((*_codes(RegistryError), *map(str, Defect), *of_versions, *_MORE))


def _codes(kind: type[RegistryError]) -> Iterator[str]:
    yield kind.code
    for more in kind.__subclasses__():
        yield from _codes(more)
