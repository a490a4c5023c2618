"""Import writer: applies an import plan within one transaction."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncSession

from registry.aliases.service import point
from registry.auth.client_address import client_address
from registry.bases.repository import BaseRepository
from registry.catalog.traffic_split import main_of
from registry.catalog.unit_of_work import UnitOfWork
from registry.inspection.base_identity import BaseIdentity
from registry.inspection.inspector import Inspection
from registry.models import Adapter, Alias, AliasHistory, Event, EventKind, Version, now, row_id
from registry.references import DEFAULT_ALIAS, parse_version
from registry.sources.disks.store_threads import STEPS
from registry.transfer.format import AliasManifest, BaseManifest, EventRecord
from registry.transfer.plan import AdapterPlan, first_default
from registry.transfer.repository import TransferRepository
from registry.transfer.serializers import adapter_row, alias_rows, event_row, version_row

_BATCH = 500


class ImportWriter:
    """Call the `write_` methods in their order. `base`: what files were inspected against."""

    def __init__(
        self,
        session: AsyncSession,
        plans: Sequence[AdapterPlan],
        inspections: Mapping[str, Inspection],
        base: BaseIdentity,
        actor: str,
    ) -> None:
        self._session = session
        self._repository = TransferRepository(session)
        self._plans = plans
        self._inspections = inspections
        self._base = base
        self._base_ids: dict[BaseManifest, int] = {}
        self._actor = actor
        self._adapter_ids = {p.manifest.name: p.local.id for p in plans if p.local is not None}
        self._version_ids: dict[str, dict[int, int]] = {}  # by adapter and number
        self.orphans: list[str] = []

    async def write_adapters(self) -> None:
        rows = [adapter_row(plan.manifest) for plan in self._plans if plan.local is None]
        await self._repository.add_adapters(rows)
        self._adapter_ids |= {row.name: row_id(row) for row in rows}

    async def write_versions(self) -> None:
        await self._add_bases()
        named = (
            (plan.manifest.name, self._version_row(plan, number))
            for plan in self._plans
            for number in sorted(plan.added)
        )
        self._version_ids = {
            plan.manifest.name: {
                number: id_
                for number, (id_, _) in (plan.local.versions if plan.local else {}).items()
            }
            for plan in self._plans
        }
        while batch := list(islice(named, _BATCH)):
            await self._repository.add_versions(batch)
            for name, row in batch:
                self._version_ids[name][row.number] = row_id(row)
        await self._write_further_numbers()
        await self._write_parents()

    async def _write_further_numbers(self) -> None:
        await self._repository.add_further_numbers(
            [
                {
                    "adapter_id": self._adapter_ids[plan.manifest.name],
                    "number": number,
                    "version_id": self._version_ids[plan.manifest.name][own],
                }
                for plan in self._plans
                for number, own in sorted(plan.further.items())
            ]
        )

    def _version_row(self, plan: AdapterPlan, number: int) -> Version:
        version = plan.added[number]
        adapter_id = self._adapter_ids[plan.manifest.name]
        inspection = self._inspections.get(version.digest)
        row = version_row(version, adapter_id, number, inspection)
        base = version.base or (self._own_base if inspection is not None else None)
        row.base_id = None if base is None else self._base_ids[base]
        return row

    @property
    def _own_base(self) -> BaseManifest:
        return BaseManifest(name=self._base.name, digest=self._base.digest)

    async def _add_bases(self) -> None:
        """A version stays bound to what it was: this server then serves it if that is its own."""
        bases = BaseRepository(self._session)
        self._base_ids[self._own_base] = await bases.id_of(self._base)
        added = (version for plan in self._plans for version in plan.added.values())
        for base in {version.base for version in added if version.base is not None}:
            self._base_ids[base] = await bases.id_of(BaseIdentity(base.name, base.digest))

    async def _write_parents(self) -> None:
        """Set parents of new versions. Versions whose parent is unknown go to `orphans`."""
        wanted = {
            self._version_ids[plan.manifest.name][number]: (version.parent, plan, number)
            for plan in self._plans
            for number, version in plan.added.items()
            if version.parent is not None
        }
        ids = await self._ids_of({parent for parent, _, _ in wanted.values() if parent})
        for version_id, (parent, plan, number) in wanted.items():
            if parent in ids:
                await self._repository.set_parent(version_id, ids[parent])
            else:
                self.orphans.append(f"{plan.manifest.name}:{number}")

    async def _ids_of(self, references: Collection[str]) -> dict[str, int]:
        """Row ids of known versions, by reference."""
        named = {reference: parse_version(reference) for reference in references}
        elsewhere = {name for name, _ in named.values() if name not in self._version_ids}
        for name, local in (await self._repository.local(elsewhere)).items():
            self._version_ids[name] = {n: id_ for n, (id_, _) in local.versions.items()}
        found = {
            reference: self._version_ids.get(name, {}).get(number)
            for reference, (name, number) in named.items()
        }
        return {reference: id_ for reference, id_ in found.items() if id_ is not None}

    async def write_aliases(self) -> None:
        at = now()
        for plan in self._plans:
            for alias in plan.copied:
                self._copy(plan, alias)
            if plan.default is not None:
                self._copy(plan, first_default(plan.default, at, self._actor))
        await self._session.flush()
        for plan in self._plans:
            for name, weights in plan.moved.items():
                await self._move(plan, name, weights)

    def _copy(self, plan: AdapterPlan, alias: AliasManifest) -> None:
        name = plan.manifest.name
        adapter_id, ids = self._adapter_ids[name], self._version_ids[name]
        rows: list[Alias | AliasHistory] = [*alias_rows(alias, adapter_id, ids)]
        if (current := alias.current) is not None:
            version_id = ids[main_of(current.weights)]
            rows.append(
                Alias(
                    adapter_id=adapter_id,
                    name=alias.name,
                    version_id=version_id,
                    revision=current.revision,
                )
            )
        self._session.add_all(rows)

    async def _move(self, plan: AdapterPlan, alias: str, weights: Mapping[int, int]) -> None:
        adapter = await self._session.get_one(Adapter, self._adapter_ids[plan.manifest.name])
        work = UnitOfWork(self._session, adapter, self._actor, client_address())
        current = await work.aliases.current(work.adapter_id, alias)
        await point(work, alias, weights, "imported", current)

    async def write_events(self, records: Iterator[EventRecord]) -> int:
        """Write unknown past events, and one import event per changed adapter."""
        added = 0
        while batch := await STEPS.run(partial(_take, records)):
            known = await self._repository.known_events(record.uid for record in batch)
            new = {
                record.uid: record
                for record in batch
                if record.uid not in known and record.adapter in self._adapter_ids
            }
            rows = [event_row(record, self._adapter_ids[record.adapter]) for record in new.values()]
            await self._repository.add_events(rows)
            added += len(rows)
        self._session.add_all(
            self._import_event(plan) for plan in self._plans if plan.changes_anything
        )
        await self._session.flush()
        return added

    def _import_event(self, plan: AdapterPlan) -> Event:
        aliases = [alias.name for alias in plan.copied] + list(plan.moved)
        if plan.default is not None:
            aliases.append(DEFAULT_ALIAS)
        return Event(
            actor=self._actor,
            address=client_address(),
            kind=EventKind.ADAPTER_IMPORTED,
            adapter_id=self._adapter_ids[plan.manifest.name],
            data=_changes(plan, aliases),
        )


def _take(records: Iterator[EventRecord]) -> list[EventRecord]:
    """Runs in a thread: they are read from the archive's file."""
    return list(islice(records, _BATCH))


def _changes(plan: AdapterPlan, aliases: Sequence[str]) -> dict[str, object]:
    further = {"further_numbers": sorted(plan.further)} if plan.further else {}
    return {"versions": sorted(plan.added), "aliases": sorted(aliases), **further}
