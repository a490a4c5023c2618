"""Metadata of adapters and versions: descriptions, tags, JSON, and lineage."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.auth.grants import can_see
from registry.catalog.types import PublishedVersion
from registry.catalog.unit_of_work import UnitOfWork, adapter_transaction
from registry.database.engine import Database
from registry.errors import LineageCycle, MetadataTooLarge, UnknownAdapter, UnknownVersion
from registry.models import Adapter, EventKind, Version, now, row_id
from registry.references import parse_version, tenant_of
from registry.search.repository import TermRepository, adapter_terms, version_terms

MAX_METADATA_BYTES = 16 * 1024
MAX_TAGS = 64

Fields = dict[str, Any]
"""Fields to change. `tags` replaces all of them, `add_tags` and `remove_tags` some;
`metadata` is merged key by key, where None removes a key; None clears any other field."""


@dataclass(frozen=True, slots=True)
class VersionDetails:
    """Metadata given at a registration. `parent` is a reference `name:3`."""

    description: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None
    training_run: str | None = None
    dataset: str | None = None


def details_of(request: Mapping[str, Any]) -> VersionDetails:
    """Parse the metadata of a registration request. Raises MetadataTooLarge."""
    given = {key: request[key] for key in VersionDetails.__dataclass_fields__ if key in request}
    details = VersionDetails(**{**given, "tags": tuple(given.get("tags", ()))})
    _check_size(details.metadata)
    return details


class MetadataService:
    """Changes metadata; never what is served."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def update_adapter(self, name: str, fields: Fields, *, actor: str) -> Adapter:
        """Raises UnknownAdapter, MetadataTooLarge."""
        async with adapter_transaction(self._database, name, actor) as work:
            adapter = work.adapter
            if changed := _apply(adapter, fields):
                await TermRepository(work.session).set_adapter(name, adapter_terms(adapter))
                await work.add_event(EventKind.ADAPTER_UPDATED, reason=", ".join(changed))
        return adapter

    async def update_version(
        self, name: str, number: int, fields: Fields, *, actor: str
    ) -> PublishedVersion:
        """Raises UnknownAdapter, UnknownVersion, MetadataTooLarge, LineageCycle."""
        fields = dict(fields)
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            changed = await _set_parent(work, version, fields)
            changed += _apply(version, fields)
            if changed:
                terms = TermRepository(work.session)
                await terms.set_version(row_id(version), version_terms(name, version))
                await work.add_event(
                    EventKind.VERSION_UPDATED,
                    to_version=version.number,
                    reason=", ".join(changed),
                )
            return await work.published_version(version)


async def describe(work: UnitOfWork, version: Version, details: VersionDetails) -> str | None:
    """Set the details of a version without a row yet; returns the parent's reference.

    Raises UnknownAdapter, UnknownVersion, MetadataTooLarge.
    """
    if details.parent is not None:
        version.parent_id = row_id(await parent_of(work, details.parent))
    version.description = details.description
    version.tags = sorted(set(details.tags))
    version.user_metadata = _check_size(details.metadata)
    version.training_run = details.training_run
    version.dataset = details.dataset
    return details.parent


async def parent_of(work: UnitOfWork, reference: str) -> Version:
    """The parent, if the actor may see it: a job may outlive a grant.

    Raises InvalidReference, UnknownAdapter, UnknownVersion.
    """
    name, number = parse_version(reference)
    adapter = await work.repository.adapter(name)
    if adapter is None or not await can_see(work.session, tenant_of(work.actor), adapter):
        raise UnknownAdapter(name)
    version = await work.repository.version(row_id(adapter), number)
    if version is None:
        raise UnknownVersion(name, number)
    return version


async def _set_parent(work: UnitOfWork, version: Version, fields: Fields) -> list[str]:
    """Pop `parent` from the fields and apply it; ["parent"] if it changed."""
    if "parent" not in fields:
        return []
    reference = fields.pop("parent")
    parent_id = None
    if reference is not None:
        parent = await parent_of(work, reference)
        parent_id = row_id(parent)
        if await work.repository.descends(parent_id, row_id(version)):
            raise LineageCycle(work.reference(version.number), reference)
    if parent_id == version.parent_id:
        return []
    version.parent_id = parent_id
    return ["parent"]


def _apply(row: Adapter | Version, fields: Fields) -> list[str]:
    """Apply the fields; sorted names of those that changed."""
    wanted = dict(fields)
    tags = set(row.tags if (given := wanted.pop("tags", None)) is None else given)
    tags = (tags | set(wanted.pop("add_tags", ()))) - set(wanted.pop("remove_tags", ()))
    if len(tags) > MAX_TAGS:
        raise MetadataTooLarge(f"more than {MAX_TAGS} tags")
    wanted["tags"] = sorted(tags)
    wanted["user_metadata"] = _merge(row.user_metadata, wanted.pop("metadata", None) or {})
    changed = [name for name, value in wanted.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, wanted[name])
    if changed:
        row.updated_at = now()
    return sorted(name.removeprefix("user_") for name in changed)


def _merge(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**before, **changes}
    return _check_size({key: value for key, value in merged.items() if value is not None})


def _check_size(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise MetadataTooLarge(f"metadata of more than {MAX_METADATA_BYTES} bytes of JSON")
    return metadata
