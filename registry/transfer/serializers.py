"""Conversion of rows to manifests and back."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from registry.catalog.schemas import InspectionRead
from registry.events.log import RecordedEvent
from registry.inspection.inspector import Inspection
from registry.models import SERVABLE, Adapter, AliasHistory, ServedName, Version
from registry.transfer.format import (
    AdapterManifest,
    AliasManifest,
    AliasStateManifest,
    BaseManifest,
    EventRecord,
    NameManifest,
    VersionManifest,
)

Row = dict[str, Any]

_SAME = (
    "digest",
    "content_digest",
    "state",
    "state_reason",
    "state_code",
    "state_changed_at",
    "rank",
    "alpha",
    "dtype",
    "base_model",
    "size_bytes",
    "chat_template",
    "sampling_defaults",
    "source",
    "revision",
    "created_at",
    "created_by",
    "description",
    "training_run",
    "dataset",
    "updated_at",
)


# ---- to manifests ------------------------------------------------------------------------


def adapter_manifest(
    adapter: Adapter,
    versions: Iterable[VersionManifest],
    aliases: Iterable[AliasManifest],
    names: Iterable[ServedName],
) -> AdapterManifest:
    return AdapterManifest(
        name=adapter.name,
        description=adapter.description,
        owner=adapter.owner,
        tags=tuple(adapter.tags),
        metadata=adapter.user_metadata,
        serve_chat_template=adapter.serve_chat_template,
        serve_sampling_defaults=adapter.serve_sampling_defaults,
        created_at=adapter.created_at,
        updated_at=adapter.updated_at,
        versions=tuple(versions),
        aliases=tuple(aliases),
        names=tuple(
            NameManifest(name=row.name, alias=row.alias, version=row.version) for row in names
        ),
    )


def version_manifest(
    version: Version,
    parent: str | None,
    base: BaseManifest | None,
    further_numbers: tuple[int, ...],
    *,
    has_files: bool,
) -> VersionManifest:
    """Manifest of a version; omits what inspecting its files yields, if it must have files."""
    omits_facts = has_files and version.state in SERVABLE
    return VersionManifest(
        **{name: getattr(version, name) for name in _SAME},
        number=version.number,
        further_numbers=further_numbers,
        target_modules=tuple(version.target_modules),
        peft_config=None if omits_facts else version.peft_config,
        inspection=None
        if omits_facts or version.inspection is None
        else InspectionRead.model_validate(version.inspection),
        tags=tuple(version.tags),
        metadata=version.user_metadata,
        parent=parent,
        base=base,
    )


def alias_manifests(
    history: Sequence[AliasHistory], numbers: Mapping[int, int]
) -> list[AliasManifest]:
    """From one adapter's rows by alias and revision. `numbers`: version numbers by row id."""
    found = []
    for name, of_alias in groupby(history, key=lambda row: row.alias):
        states = [
            _state_manifest(list(rows), numbers)
            for _, rows in groupby(of_alias, key=lambda row: row.revision)
        ]
        found.append(AliasManifest(name=name, states=tuple(states)))
    return found


def _state_manifest(rows: Sequence[AliasHistory], numbers: Mapping[int, int]) -> AliasStateManifest:
    first = rows[0]
    return AliasStateManifest(
        revision=first.revision,
        weights=dict(sorted((numbers[row.version_id], row.weight) for row in rows)),
        valid_from=first.valid_from,
        valid_to=first.valid_to,
        actor=first.actor,
        reason=first.reason,
    )


def event_record(recorded: RecordedEvent) -> EventRecord:
    event = recorded.event
    return EventRecord(
        uid=event.uid,
        at=event.at,
        actor=event.actor,
        kind=event.kind,
        adapter=recorded.adapter or "",
        alias=event.alias,
        from_version=event.from_version,
        to_version=event.to_version,
        reason=event.reason,
        data=event.data,
    )


# ---- to rows -----------------------------------------------------------------------------


def adapter_row(manifest: AdapterManifest) -> Adapter:
    return Adapter(
        name=manifest.name,
        description=manifest.description,
        owner=manifest.owner,
        tags=sorted(set(manifest.tags)),
        user_metadata=manifest.metadata,
        serve_chat_template=manifest.serve_chat_template,
        serve_sampling_defaults=manifest.serve_sampling_defaults,
        created_at=manifest.created_at,
        updated_at=manifest.updated_at,
    )


def version_row(
    manifest: VersionManifest, adapter_id: int, number: int, inspection: Inspection | None
) -> Version:
    """Row of a version; inspection results take precedence over the manifest."""
    row = Version(
        **{name: getattr(manifest, name) for name in _SAME},
        adapter_id=adapter_id,
        number=number,
        target_modules=list(manifest.target_modules),
        peft_config=manifest.peft_config or {},
        inspection=None if manifest.inspection is None else manifest.inspection.model_dump(),
        tags=sorted(set(manifest.tags)),
        user_metadata=manifest.metadata,
    )
    if inspection is not None:
        row.rank, row.alpha, row.dtype = inspection.rank, inspection.alpha, inspection.dtype
        row.target_modules = list(inspection.target_modules)
        row.base_model, row.size_bytes = inspection.base_model, inspection.size_bytes
        row.peft_config = inspection.peft_config
        row.content_digest = inspection.content_digest
        row.inspection = inspection.report
        if row.chat_template is None:
            row.chat_template = inspection.chat_template
        if row.sampling_defaults is None:
            row.sampling_defaults = inspection.sampling_defaults
    return row


def alias_rows(
    alias: AliasManifest, adapter_id: int, version_ids: Mapping[int, int]
) -> list[AliasHistory]:
    """`version_ids`: row ids by version number."""
    return [
        AliasHistory(
            adapter_id=adapter_id,
            alias=alias.name,
            revision=state.revision,
            version_id=version_ids[number],
            weight=weight,
            valid_from=state.valid_from,
            valid_to=state.valid_to,
            actor=state.actor,
            reason=state.reason,
        )
        for state in alias.states
        for number, weight in state.weights.items()
    ]


def event_row(record: EventRecord, adapter_id: int) -> Row:
    return {
        "uid": record.uid,
        "at": record.at,
        "actor": record.actor,
        "kind": record.kind,
        "adapter_id": adapter_id,
        "alias": record.alias,
        "from_version": record.from_version,
        "to_version": record.to_version,
        "reason": record.reason,
        "data": record.data,
        "imported": True,
    }
