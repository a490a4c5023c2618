"""What the registry's use cases answer with."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from registry.catalog.traffic_split import main_of, pick
from registry.models import Version


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """What a reference means now. `path` is the absolute folder of the verified files.

    `deprecated_at` is None unless the version is deprecated; then `state_reason` says why.
    """

    adapter: str
    number: int
    version_id: int
    digest: str
    path: Path
    rank: int
    size_bytes: int
    state: str
    state_reason: str | None = None
    deprecated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """All versions that a reference may mean now, with their weights; mostly one."""

    reference: str
    versions: dict[int, ResolvedVersion]  # by number, so that users keep theirs in another registry
    weights: dict[int, int]

    @property
    def main(self) -> ResolvedVersion:
        """The one with the largest weight."""
        return self.versions[main_of(self.weights)]

    def for_user(self, user: str) -> ResolvedVersion:
        """By weight; always the same for one user while weights stay the same."""
        if len(self.versions) == 1:
            return self.main
        return self.versions[pick(self.weights, salt=self.reference, user=user)]


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version under its adapter's name. `parent` is the reference of what it was made from."""

    adapter: str
    version: Version
    parent: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.adapter}:{self.version.number}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version came from, in which state of it, and who asked for it from where."""

    source: str
    revision: str | None
    actor: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """`created` is False if this content was published before.

    `restored`: that version had lost its files, and has them again.
    """

    published: PublishedVersion
    created: bool
    restored: bool = False


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias points or pointed. `weights` by version number, mostly one.

    `valid_to` is None while it still does.
    """

    alias: str
    revision: int
    weights: dict[int, int]
    valid_from: datetime
    valid_to: datetime | None
    actor: str
    reason: str | None

    @property
    def number(self) -> int:
        """The version with the largest weight."""
        return main_of(self.weights)


@dataclass(frozen=True, slots=True)
class Purge:
    """`freed_bytes` is 0 where another version has the same files."""

    published: PublishedVersion
    freed_bytes: int
