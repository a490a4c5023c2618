"""Publication of stored files as a version: the rows and events of one transaction."""

from sqlalchemy.ext.asyncio import AsyncSession

from registry.aliases.service import point_first
from registry.auth.grants import check_tenant_exists
from registry.bases.repository import BaseRepository
from registry.catalog.metadata import VersionDetails, describe
from registry.catalog.repository import RegistryRepository
from registry.catalog.types import Origin, PublishedVersion, Registration
from registry.catalog.unit_of_work import UnitOfWork
from registry.errors import OtherBaseModel
from registry.ingest.content_digests import MissingDigests
from registry.ingest.precedence import NO_REST, Rest
from registry.inspection.base_identity import BaseIdentity
from registry.inspection.inspector import Inspection
from registry.lifecycle.transitions import change_state
from registry.models import Adapter, EventKind, Version, VersionState, row_id
from registry.names.repository import NameRepository
from registry.names.service import check_not_served
from registry.references import DEFAULT_ALIAS
from registry.search.repository import TermRepository, adapter_terms, version_terms
from registry.storage.store import StoredArtifact


async def publish(
    session: AsyncSession,
    name: str,
    origin: Origin,
    artifact: StoredArtifact,
    details: VersionDetails,
    base: BaseIdentity,
    *,
    base_id: int | None = None,
    find_missing_digests: bool = True,
    rest: Rest = NO_REST,
) -> Registration:
    """Publish the adapter's next version, or find the one that has these files or this content.

    `base`: the base model that they were checked against; `base_id`: its row, if that is known.
    Raises OtherBaseModel, UnknownTenant, NameTaken,
    UnknownAdapter and UnknownVersion for the parent, MetadataTooLarge; MissingDigests, unless told
    not to look for those.
    """
    adapter = await RegistryRepository(session).adapter(name, lock=True)
    is_new = adapter is None
    if adapter is None:
        adapter = await _add_adapter(session, name, details.description)
    elif find_missing_digests:
        await _check_digests(session, name, artifact.inspection)
    await rest.take()
    work = UnitOfWork(session, adapter, origin.actor, origin.address)
    await work.repository.lock_files(artifact.digest)
    last, known = (0, None) if is_new else await _find_same(work, artifact)
    if known is not None:
        return await _publish_again(work, await work.version(known), artifact.inspection, base)
    version = _version(row_id(adapter), last + 1, origin, artifact)
    version.base_id = base_id or await BaseRepository(session).id_of(base)
    await rest.take()
    return Registration(await _publish_new(work, version, details, base, rest), created=True)


async def _add_adapter(session: AsyncSession, name: str, description: str | None) -> Adapter:
    """Locked until the transaction ends, as no other sees it."""
    await check_tenant_exists(session, name)
    await check_not_served(NameRepository(session), name)
    adapter = Adapter(name=name, description=description)
    await RegistryRepository(session).insert(adapter)
    await TermRepository(session).add_adapter(name, adapter_terms(adapter))
    return adapter


async def _check_digests(session: AsyncSession, name: str, new: Inspection) -> None:
    """Raises MissingDigests."""
    repository = RegistryRepository(session)
    missing = await repository.versions_without_content_digest(name, new.rank, new.alpha)
    if missing:
        raise MissingDigests(missing)


async def _find_same(work: UnitOfWork, artifact: StoredArtifact) -> tuple[int, int | None]:
    """The adapter's last version, and the one that has these files or this content."""
    repository = work.repository
    last, known = await repository.last_number_and_digest(work.adapter_id, artifact.digest)
    if known is None:
        content = artifact.inspection.content_digest
        known = await repository.number_with_content(work.adapter_id, content)
        artifact.is_used = known is None
    return last, known


async def _publish_new(
    work: UnitOfWork, version: Version, details: VersionDetails, base: BaseIdentity, rest: Rest
) -> PublishedVersion:
    """Add the version; the adapter's first one becomes its default."""
    name = work.adapter.name
    await describe(work, version, details)
    await work.repository.insert(version)
    await rest.take()
    await TermRepository(work.session).add_version(row_id(version), version_terms(name, version))
    await work.add_event(EventKind.VERSION_REGISTERED, to_version=version.number)
    await rest.take()
    if version.number == 1:
        await point_first(work, DEFAULT_ALIAS, version, "first version")
    parent = await work.repository.reference_of(version.parent_id)
    return PublishedVersion(name, version, parent, base.name)


async def _publish_again(
    work: UnitOfWork, known: Version, inspection: Inspection, base: BaseIdentity
) -> Registration:
    """A retired or quarantined version stays so; a purged or rejected one becomes ready.

    What it was trained with is no part of its content: a corrected chat template is taken over.
    """
    await _bind(work, known, base)
    if changed := _take_training(known, inspection):
        reason = f"{', '.join(changed)}: registered again with others"
        await work.add_event(EventKind.VERSION_UPDATED, to_version=known.number, reason=reason)
    restored = known.state in (VersionState.PURGED, VersionState.REJECTED)
    if restored:
        change_state(known, VersionState.READY, work.reference(known.number))
        await work.add_event(
            EventKind.VERSION_RESTORED, to_version=known.number, reason="registered again"
        )
    return Registration(await work.published_version(known), created=False, restored=restored)


def _take_training(known: Version, inspection: Inspection) -> list[str]:
    """Names of what changed. A folder without such files changes nothing."""
    new = {
        "chat_template": inspection.chat_template,
        "sampling_defaults": inspection.sampling_defaults,
    }
    changed = [n for n, value in new.items() if value is not None and getattr(known, n) != value]
    for name in changed:
        setattr(known, name, new[name])
    return changed


async def _bind(work: UnitOfWork, known: Version, base: BaseIdentity) -> None:
    """Raises OtherBaseModel for one that another base model has."""
    bases = BaseRepository(work.session)
    if known.base_id is None:
        known.base_id = await bases.id_of(base)
    elif not await bases.is_served(known.base_id, base):
        bound = await bases.name_of(known.base_id)
        raise OtherBaseModel(work.reference(known.number), bound, base.name)


def _version(adapter_id: int, number: int, origin: Origin, artifact: StoredArtifact) -> Version:
    inspection = artifact.inspection
    return Version(
        adapter_id=adapter_id,
        number=number,
        digest=artifact.digest,
        content_digest=inspection.content_digest,
        rank=inspection.rank,
        alpha=inspection.alpha,
        target_modules=list(inspection.target_modules),
        dtype=inspection.dtype,
        base_model=inspection.base_model,
        size_bytes=artifact.size_bytes,
        source=origin.source,
        revision=origin.revision,
        chat_template=inspection.chat_template,
        sampling_defaults=inspection.sampling_defaults,
        peft_config=inspection.peft_config,
        inspection=inspection.report,
        created_by=origin.actor,
    )
