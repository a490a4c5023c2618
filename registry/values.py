"""What the registry's use cases answer with."""

from dataclasses import dataclass
from pathlib import Path

from registry.models import Alias, Version


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """What a reference means now. `path` is the absolute folder of the verified files."""

    adapter: str
    number: int
    version_id: int
    digest: str
    path: Path
    rank: int
    size_bytes: int
    state: str


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version under its adapter's name."""

    adapter: str
    version: Version

    @property
    def reference(self) -> str:
        return f"{self.adapter}:{self.version.number}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version came from, in which state of it, and who asked for it."""

    source: str
    revision: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class Registration:
    """`created` is False if this content was published before."""

    published: PublishedVersion
    created: bool


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias points."""

    alias: Alias
    number: int
