"""Result types of the registry's use cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from registry.catalog.traffic_split import main_of, pick
from registry.models import Version
from registry.references import DEFAULT_ALIAS, AdapterReference


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """The version that a reference resolves to. `path`: absolute folder of the verified files.

    `is_served`: it is bound to a base model that this server serves.
    `deprecated_at` is None unless the version is deprecated; then `state_reason` is the reason.
    `invocation_tokens`: None for a plain adapter, that has an effect from the prompt's start on.
    `chat_template`, `sampling_defaults`: None if the base model's are to be used.
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
    invocation_tokens: tuple[int, ...] | None = None
    chat_template: str | None = None
    sampling_defaults: Mapping[str, Any] | None = None
    base_id: int | None = None
    is_served: bool = True

    @property
    def reference(self) -> str:
        return f"{self.adapter}:{self.number}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """All versions that a reference may resolve to, with their weights; usually one."""

    reference: str
    versions: dict[int, ResolvedVersion]  # by number: users keep their version in another registry
    weights: dict[int, int]

    @property
    def main(self) -> ResolvedVersion:
        """The one with the largest weight."""
        return self.versions[main_of(self.weights)]

    def for_user(self, user: str) -> ResolvedVersion:
        """Chosen by weight; stable for a user while the weights are."""
        if len(self.versions) == 1:
            return self.main
        return self.versions[pick(self.weights, salt=self.reference, user=user)]


class ServedReference(NamedTuple):
    """A servable alias: `name` for the default, `name@alias` for others. `source`: where the files
    of its version came from."""

    reference: str
    source: str

    @classmethod
    def of_alias(cls, adapter: str, alias: str, source: str) -> "ServedReference":
        shown = None if alias == DEFAULT_ALIAS else alias
        return cls(str(AdapterReference(adapter, shown)), source)


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version under its adapter's name. `parent` is the reference of its parent, `base` the name
    of the base model that it is bound to, `further_numbers` mean it too."""

    adapter: str
    version: Version
    parent: str | None = None
    base: str | None = None
    further_numbers: tuple[int, ...] = ()

    @property
    def reference(self) -> str:
        return f"{self.adapter}:{self.version.number}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Source and revision of a version; actor and address of the request."""

    source: str
    revision: str | None
    actor: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """Result of a registration. `created` is False if this content was published before.

    `restored`: that version had lost its files and has them again.
    """

    published: PublishedVersion
    created: bool
    restored: bool = False


@dataclass(frozen=True, slots=True)
class AliasState:
    """Current or past state of an alias. `weights` by version number, usually one.

    `valid_to` is None for the current state.
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
    """Result of a purge. Both are 0 if another version has the same files.

    `pending_bytes` are not freed yet: the store did not delete them in time, or a client that
    registers the same files may need them. They go later, unless a version needs them then.
    """

    published: PublishedVersion
    freed_bytes: int
    pending_bytes: int
