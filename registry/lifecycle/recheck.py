"""Recheck: versions inspected again and bound to the base model that this server serves."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from registry.bases.repository import BaseRepository
from registry.catalog.repository import WITHOUT_FILES
from registry.catalog.types import PublishedVersion
from registry.catalog.unit_of_work import UnitOfWork, adapter_transaction
from registry.database.engine import Database
from registry.errors import FilesMissing, OtherBaseModel, RegistryError, StoreUnavailable
from registry.errors.defects import Remark
from registry.inspection.base_model import BaseModel
from registry.inspection.inspector import Inspection, check_fit
from registry.models import EventKind, Version, row_id
from registry.sources.disks.store_threads import STEPS, WORK

logger = logging.getLogger(__name__)

_BATCH = 200


class RecheckService:
    """`inspect` raises InvalidAdapter for files that the engine would not serve as trained."""

    def __init__(
        self,
        database: Database,
        path_of: Callable[[str], Path],
        base_model: BaseModel,
        inspect: Callable[[Path], Inspection],
    ) -> None:
        self._database = database
        self._path_of = path_of
        self._base_model = base_model
        self._inspect = inspect

    async def recheck(
        self, name: str, number: int, *, actor: str, from_base: str | None = None
    ) -> PublishedVersion:
        """Inspect a version again; if it fits, bind it to this server's base model.

        `from_base`: what it is bound to now, if that is another base model: nothing is taken from
        another by accident. Raises UnknownAdapter, UnknownVersion, UnknownBase, AmbiguousBase,
        OtherBaseModel, FilesMissing, StoreUnavailable; InvalidAdapter, and then nothing changes.
        """
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            await self._check_from(work, version, from_base)
            digest = version.digest
        inspection = await self._inspected(f"{name}:{number}", digest)
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            before = await self._check_from(work, version, from_base)
            version.base_id = await BaseRepository(work.session).id_of(self._base_model.identity)
            version.inspection = inspection.report
            data = {"from": before, "to": self._base_model.identity.name}
            await work.add_event(EventKind.VERSION_RECHECKED, to_version=version.number, data=data)
            await work.session.flush()
            return await work.published_version(version)

    async def _check_from(
        self, work: UnitOfWork, version: Version, from_base: str | None
    ) -> str | None:
        """The name of its base model. Raises OtherBaseModel unless it may be taken from that."""
        bases, identity = BaseRepository(work.session), self._base_model.identity
        if version.base_id is None:
            return None
        bound = await bases.name_of(version.base_id)
        wanted = None if from_base is None else row_id(await bases.named(from_base))
        is_own = await bases.is_served(version.base_id, identity)
        if wanted != version.base_id and (wanted is not None or not is_own):
            raise OtherBaseModel(work.reference(version.number), bound, identity.name)
        return bound

    async def _inspected(self, reference: str, digest: str) -> Inspection:
        folder = self._path_of(digest)
        try:
            if not await STEPS.run(folder.is_dir):
                raise FilesMissing(reference)
            return await WORK.run(partial(self._inspect, folder))
        except OSError as error:
            raise StoreUnavailable(f"the files can't be read: {error.strerror}") from error

    # ---- versions from before base models were told apart ---------------------------------

    async def bind_unbound(self) -> None:
        """Bind every version that is bound to none, and fits this base model, to it.

        Only headers are read: what concerns the version alone was checked when it was registered.
        """
        after = bound = left = 0
        while found := await self._unbound(after):
            after = found[-1].id or 0
            fitting = [version for version in found if await self._fits(version)]
            left += len(found) - len(fitting)
            bound += await self._bind(fitting)
        if bound or left:
            name = self._base_model.identity.name
            logger.warning(
                "%d versions from before base models were told apart are bound to %s now; "
                "%d do not fit it and are not served here",
                bound,
                name,
                left,
            )

    async def _unbound(self, after: int) -> Sequence[Version]:
        statement = (
            select(Version)
            .where(
                col(Version.base_id).is_(None),
                col(Version.state).not_in(WITHOUT_FILES),
                col(Version.id) > after,
            )
            .order_by(col(Version.id))
            .limit(_BATCH)
        )
        async with self._database.read_session() as session:
            return list((await session.execute(statement)).scalars())

    async def _fits(self, version: Version) -> bool:
        folder = self._path_of(version.digest)
        try:
            await WORK.run(partial(check_fit, folder, self._base_model))
        except (RegistryError, OSError) as error:
            logger.info("version %d is not bound to a base model: %s", row_id(version), error)
            return False
        return True

    async def _bind(self, versions: Sequence[Version]) -> int:
        if not versions:
            return 0
        async with self._database.transaction() as session:
            base_id = await BaseRepository(session).id_of(self._base_model.identity)
            for version in versions:
                statement = update(Version).where(
                    col(Version.id) == version.id, col(Version.base_id).is_(None)
                )
                report = _with_remark(version.inspection, self._base_model.identity.name)
                await session.execute(statement.values(base_id=base_id, inspection=report))
        return len(versions)


def _with_remark(report: dict[str, Any] | None, base: str) -> dict[str, Any] | None:
    """A report from before there were reports stays without."""
    if report is None:
        return None
    detail = f"bound to {base} because it fits: what it was checked against is not known"
    remark = {"code": str(Remark.BASE_MODEL_ASSUMED), "detail": detail}
    return {**report, "remarks": [*report.get("remarks", ()), remark]}
