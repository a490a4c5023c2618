"""Tenant service: tenants and grants. Each change is one transaction."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.client_address import client_address
from registry.auth.grants import get_tenant
from registry.catalog.repository import RegistryRepository, get_adapter
from registry.catalog.unit_of_work import adapter_transaction
from registry.database.engine import Database
from registry.database.pagination import Page, name_of, page_of
from registry.errors import InvalidReference, TenantExists, TenantNotEmpty
from registry.ingest.repository import JobRepository
from registry.models import Adapter, Event, EventKind, now
from registry.models.api_key import ApiKey
from registry.models.tenant import AdapterGrant, Tenant
from registry.prompts.service import delete_of_tenant
from registry.quotas.repository import QuotaRepository
from registry.quotas.service import stored_usage
from registry.quotas.usage import LiveUsage, LiveUsageOf, StoredUsage, no_live_usage
from registry.references import check_tenant, tenant_of

TenantUsage = tuple[Tenant, LiveUsage, StoredUsage]


async def _null_callback() -> None:
    """Null callback."""


class TenantService:
    """Manages tenants (namespaces of adapters) and grants of adapters to them."""

    def __init__(
        self,
        database: Database,
        *,
        live: LiveUsageOf = no_live_usage,
        changed: Callable[[], Awaitable[None]] = _null_callback,
    ) -> None:
        """`live`: usage in this server's engine. `changed` is awaited after changes of limits."""
        self._database = database
        self._live = live
        self._changed = changed

    # ---- tenants -------------------------------------------------------------------------

    async def tenants(self, *, limit: int, page_token: str | None = None) -> Page[Tenant]:
        """One page, by name. Raises InvalidPageToken."""
        after = name_of(page_token)
        async with self._database.read_session() as session:
            statement = select(Tenant).where(col(Tenant.name) > after)
            ordered = statement.order_by(col(Tenant.name)).limit(limit + 1)
            rows = (await session.execute(ordered)).scalars().all()
        return page_of(rows, limit, lambda tenant: tenant.name)

    async def tenant(self, name: str) -> Tenant:
        """Raises UnknownTenant."""
        async with self._database.read_session() as session:
            return await get_tenant(session, name)

    async def usage(self, name: str) -> TenantUsage:
        """The tenant and its usage. Raises UnknownTenant."""
        async with self._database.read_session() as session:
            return await self._usage(session, await get_tenant(session, name))

    async def usages(self, *, limit: int, page_token: str | None = None) -> Page[TenantUsage]:
        """One page of tenants with their usage, by name. Raises InvalidPageToken."""
        page = await self.tenants(limit=limit, page_token=page_token)
        async with self._database.read_session() as session:
            found = [await self._usage(session, tenant) for tenant in page.items]
        return Page(found, page.next_token)

    async def _usage(self, session: AsyncSession, tenant: Tenant) -> TenantUsage:
        stored = await stored_usage(session, tenant.name)
        return tenant, self._live(tenant.name), stored

    async def create(self, name: str, limits: Mapping[str, int | None], *, actor: str) -> Tenant:
        """Raises InvalidReference, TenantExists."""
        tenant = Tenant(name=check_tenant(name), created_by=actor)
        for field, value in limits.items():
            setattr(tenant, field, value)
        try:
            async with self._database.transaction(for_catalog=False) as session:
                session.add(tenant)
                await session.flush()
                session.add(_event(EventKind.TENANT_CREATED, name, actor, limits=dict(limits)))
        except IntegrityError:
            raise TenantExists(name) from None
        await self._changed()
        return tenant

    async def change(self, name: str, limits: Mapping[str, int | None], *, actor: str) -> Tenant:
        """Change the given limits only. Raises UnknownTenant."""
        async with self._database.transaction(for_catalog=False) as session:
            tenant = await get_tenant(session, name, lock=True)
            for field, value in limits.items():
                setattr(tenant, field, value)
            session.add(_event(EventKind.TENANT_CHANGED, name, actor, limits=dict(limits)))
        await self._changed()
        return tenant

    async def delete(self, name: str, *, actor: str) -> None:
        """Delete it, its grants, jobs and sets of prompts. Raises UnknownTenant, TenantNotEmpty."""
        async with self._database.transaction(for_catalog=False) as session:
            tenant = await get_tenant(session, name, lock=True)
            await _check_empty(session, name)
            grants = select(AdapterGrant).where(col(AdapterGrant.tenant) == name)
            for grant in (await session.execute(grants)).scalars():
                await session.delete(grant)
            await QuotaRepository(session).forget_registrations(name, now())
            await JobRepository(session).delete_of_tenant(name)
            await delete_of_tenant(session, name)
            await session.delete(tenant)
            session.add(_event(EventKind.TENANT_DELETED, name, actor))
        await self._changed()

    # ---- grants --------------------------------------------------------------------------

    async def grants(self, adapter: str) -> list[AdapterGrant]:
        """Grants of an adapter, by tenant. Raises InvalidReference, UnknownAdapter."""
        async with self._database.read_session() as session:
            found = await get_adapter(RegistryRepository(session), adapter)
            statement = select(AdapterGrant).where(col(AdapterGrant.adapter_id) == found.id)
            ordered = statement.order_by(col(AdapterGrant.tenant))
            return list((await session.execute(ordered)).scalars())

    async def grant(self, adapter: str, tenant: str, *, actor: str) -> AdapterGrant:
        """Allow a tenant to use the adapter; idempotent.

        A tenant must not learn whether another exists: its grant may precede that tenant.
        Raises InvalidReference, UnknownAdapter, UnknownTenant.
        """
        if tenant_of(adapter) == check_tenant(tenant):
            raise InvalidReference(f"{adapter!r} is this tenant's own: it needs no grant")
        async with adapter_transaction(self._database, adapter, actor) as work:
            if tenant_of(actor) is None:
                await get_tenant(work.session, tenant, lock=True)
            kept = await work.session.get(AdapterGrant, (work.adapter_id, tenant))
            if kept is not None:
                return kept
            grant = AdapterGrant(adapter_id=work.adapter_id, tenant=tenant, granted_by=actor)
            work.session.add(grant)
            work.session.add(
                _event(EventKind.GRANT_ADDED, tenant, actor, adapter_id=work.adapter_id)
            )
        return grant

    async def revoke(self, adapter: str, tenant: str, *, actor: str) -> None:
        """Withdraw the grant; idempotent. Raises InvalidReference, UnknownAdapter."""
        async with adapter_transaction(self._database, adapter, actor) as work:
            kept = await work.session.get(AdapterGrant, (work.adapter_id, tenant))
            if kept is None:
                return
            await work.session.delete(kept)
            work.session.add(
                _event(EventKind.GRANT_REMOVED, tenant, actor, adapter_id=work.adapter_id)
            )


async def _check_empty(session: AsyncSession, name: str) -> None:
    namespace = col(Adapter.name).startswith(f"{name}~", autoescape=True)
    if (await session.execute(select(Adapter).where(namespace).limit(1))).first() is not None:
        raise TenantNotEmpty(name, "adapters")
    own = col(ApiKey.name).startswith(f"{name}~", autoescape=True)
    keys = select(ApiKey).where(own, col(ApiKey.revoked_at).is_(None))
    if (await session.execute(keys.limit(1))).first() is not None:
        raise TenantNotEmpty(name, "keys that are not revoked")
    if await JobRepository(session).has_unfinished(name):
        raise TenantNotEmpty(name, "jobs that are not finished")


def _event(
    kind: EventKind, tenant: str, actor: str, *, adapter_id: int | None = None, **more: Any
) -> Event:
    return Event(
        actor=actor,
        address=client_address(),
        kind=kind,
        adapter_id=adapter_id,
        data={"tenant": tenant, **more},
    )
