"""Routes of states (deprecate, retire, restore, quarantine, purge) and garbage collection."""

from datetime import timedelta

from fastapi import APIRouter

from registry.api.lifecycle_schemas import (
    GarbageBody,
    GarbageRead,
    PurgeRead,
    QuarantineBody,
    ReasonBody,
    RetireBody,
)
from registry.api.parameters import Number
from registry.api.serializers import garbage_read, purge_read, version_read
from registry.auth.caller import actor_name
from registry.catalog.schemas import VersionRead
from registry.lifecycle.garbage_collector import Retention
from registry.service import RegistryService

_VERSION = "/adapters/{name}/versions/{number}"


def add_lifecycle_routes(router: APIRouter, service: RegistryService) -> None:
    _add_steps(router, service)
    _add_ends(router, service)


def _add_steps(router: APIRouter, service: RegistryService) -> None:
    lifecycle = service.lifecycle

    @router.post(f"{_VERSION}/deprecate")
    async def deprecate(name: str, number: Number, body: ReasonBody | None = None) -> VersionRead:
        """Keep serving a version, with a `deprecation` header in each response."""
        body = body or ReasonBody()
        return version_read(
            await lifecycle.deprecate(name, number, actor=actor_name(), reason=body.reason)
        )

    @router.post(f"{_VERSION}/restore")
    async def restore(name: str, number: Number, body: ReasonBody | None = None) -> VersionRead:
        """Make a deprecated, retired or quarantined version ready again."""
        body = body or ReasonBody()
        return version_read(
            await lifecycle.restore(name, number, actor=actor_name(), reason=body.reason)
        )

    @router.post(f"{_VERSION}/retire")
    async def retire(name: str, number: Number, body: RetireBody | None = None) -> VersionRead:
        """Refuse new requests for a version; running ones finish."""
        body = body or RetireBody()
        retired = await lifecycle.retire(
            name,
            number,
            actor=actor_name(),
            reason=body.reason,
            move_aliases_to=body.move_aliases_to,
            force=body.force,
        )
        return version_read(retired)

    @router.post(f"{_VERSION}/quarantine")
    async def quarantine(name: str, number: Number, body: QuarantineBody) -> VersionRead:
        """Stop serving a version, wherever aliases point, until it is restored."""
        return version_read(
            await lifecycle.quarantine(f"{name}:{number}", body.reason, body.code, actor_name())
        )


def _add_ends(router: APIRouter, service: RegistryService) -> None:
    @router.post(f"{_VERSION}/purge")
    async def purge(name: str, number: Number, body: ReasonBody | None = None) -> PurgeRead:
        """Delete the files of a retired, quarantined or rejected version."""
        body = body or ReasonBody()
        purge = await service.lifecycle.purge(name, number, actor=actor_name(), reason=body.reason)
        return purge_read(purge)

    @router.post("/gc")
    async def collect_garbage(body: GarbageBody | None = None) -> GarbageRead:
        """Purge versions that no rule keeps, and files without a row; by default a dry run."""
        body = body or GarbageBody()
        retention = Retention(
            states=body.states,
            keep_last=body.keep_last,
            rollback_window=timedelta(days=body.rollback_window_days),
            adapter=body.adapter,
        )
        collection = await service.garbage.collect(
            retention, actor=actor_name(), limit=body.limit, dry_run=body.dry_run
        )
        return garbage_read(collection, dry_run=body.dry_run)
