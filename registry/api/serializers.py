"""Serializers: rows and values to response schemas."""

from dataclasses import replace

from registry.api.alias_schemas import AliasRead
from registry.api.lifecycle_schemas import GarbageItem, GarbageRead, PurgeRead
from registry.auth.caller import Caller, current_caller
from registry.catalog.overview import OverviewRow
from registry.catalog.overview_schemas import OverviewItem
from registry.catalog.schemas import AdapterRead, InspectionRead, VersionRead, WeightRead
from registry.catalog.types import AliasState, PublishedVersion, Purge
from registry.lifecycle.garbage_collector import Collection
from registry.models import Adapter


def adapter_read(adapter: Adapter) -> AdapterRead:
    return AdapterRead(
        name=adapter.name,
        description=adapter.description,
        owner=adapter.owner,
        tags=adapter.tags,
        metadata=adapter.user_metadata,
        serve_chat_template=adapter.serve_chat_template,
        serve_sampling_defaults=adapter.serve_sampling_defaults,
        created_at=adapter.created_at,
        updated_at=adapter.updated_at,
    )


def overview_item(row: OverviewRow) -> OverviewItem:
    shown = row.shown
    return OverviewItem(
        **adapter_read(row.adapter).model_dump(),
        aliases=row.aliases,
        splits={
            name: [WeightRead(version=n, weight=weight) for n, weight in weights.items()]
            for name, weights in row.weights.items()
            if len(weights) > 1
        },
        versions=row.versions,
        version=shown.number if shown else None,
        state=shown.state if shown else None,
        rank=shown.rank if shown else None,
        size_bytes=shown.size_bytes if shown else None,
        version_tags=shown.tags if shown else [],
    )


def version_read(published: PublishedVersion) -> VersionRead:
    """The version as the caller may see it."""
    if sees_parent(current_caller(), published.parent):
        return whole_version_read(published)
    return whole_version_read(replace(published, parent=None))


def sees_parent(caller: Caller, parent: str | None) -> bool:
    """Whether the parent is visible: a grant may have been withdrawn since."""
    return parent is None or caller.sees(parent.partition(":")[0])


def whole_version_read(published: PublishedVersion) -> VersionRead:
    """The version as the platform sees it."""
    version, report = published.version, None
    if version.inspection is not None:
        report = InspectionRead.model_validate(version.inspection)
    return VersionRead(
        adapter=published.adapter,
        number=version.number,
        further_numbers=list(published.further_numbers),
        reference=published.reference,
        kind="lora" if report is None else report.kind,
        digest=version.digest,
        content_digest=version.content_digest,
        state=version.state,
        state_reason=version.state_reason,
        state_code=version.state_code,
        state_changed_at=version.state_changed_at,
        rank=version.rank,
        alpha=version.alpha,
        target_modules=version.target_modules,
        dtype=version.dtype,
        base_model=version.base_model,
        base=published.base,
        size_bytes=version.size_bytes,
        source=version.source,
        revision=version.revision,
        inspection=report,
        has_chat_template=version.chat_template is not None,
        sampling_defaults=version.sampling_defaults,
        created_at=version.created_at,
        created_by=version.created_by,
        description=version.description,
        tags=version.tags,
        metadata=version.user_metadata,
        parent=published.parent,
        training_run=version.training_run,
        dataset=version.dataset,
        updated_at=version.updated_at,
    )


def alias_read(adapter: str, state: AliasState) -> AliasRead:
    weights = sorted(state.weights.items())
    return AliasRead(
        adapter=adapter,
        alias=state.alias,
        reference=f"{adapter}@{state.alias}",
        version=state.number,
        weights=[WeightRead(version=number, weight=weight) for number, weight in weights],
        revision=state.revision,
        valid_from=state.valid_from,
        valid_to=state.valid_to,
        moved_by=state.actor,
        reason=state.reason,
    )


def purge_read(purge: Purge) -> PurgeRead:
    return PurgeRead(
        version=version_read(purge.published),
        freed_bytes=purge.freed_bytes,
        pending_bytes=purge.pending_bytes,
    )


def garbage_read(collection: Collection, *, dry_run: bool) -> GarbageRead:
    return GarbageRead(
        dry_run=dry_run,
        purged=[
            GarbageItem(reference=each.reference, state=each.state, size_bytes=each.size_bytes)
            for each in collection.purged
        ],
        refused=collection.refused,
        kept=collection.kept,
        orphans=list(collection.orphans),
        freed_bytes=collection.freed_bytes,
        pending_bytes=collection.pending_bytes,
        more=collection.more,
    )
