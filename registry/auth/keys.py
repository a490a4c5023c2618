"""API key service: create, list, rotate, revoke, authenticate. Each change is one transaction."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from cachetools import TTLCache
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.admin_keys import check_not_last_admin, lock_platform_keys
from registry.auth.caller import Caller
from registry.auth.client_address import client_address
from registry.auth.grants import check_tenant_exists
from registry.auth.key_number import check_number_of_keys
from registry.auth.key_reader import KeyReader, KeyWithGrants
from registry.auth.key_secret import NO_HASH, new_key, parse_key
from registry.auth.rate_limits import RateLimits, rates_of
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.database.pagination import Page, number_of, token_after
from registry.errors import (
    DatabaseUnavailable,
    InvalidKey,
    KeyExists,
    KeyRevoked,
    UnknownKey,
)
from registry.errors.access import KeyRefusal
from registry.models import Event, EventKind, now, row_id
from registry.models.api_key import ApiKey
from registry.references import tenant_of

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
_OUTAGE_SECONDS = 600.0
_SAVE_SECONDS = 30.0
_MAX_CACHED = 10_000


class KeyService:
    """Rows are cached for one second, so a key revoked at another server is refused after that.

    During a database outage a key that was valid stays valid for ten minutes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = KeyReader(database)
        self._fresh: TTLCache[str, KeyWithGrants] = TTLCache(_MAX_CACHED, FRESH_SECONDS)
        self._unknown: TTLCache[str, bool] = TTLCache(_MAX_CACHED, FRESH_SECONDS)
        self._known_good: TTLCache[str, KeyWithGrants] = TTLCache(_MAX_CACHED, _OUTAGE_SECONDS)
        self._used: dict[int, datetime] = {}

    # ---- authentication ---------------------------------------------------------------------

    async def authenticate(self, text: str) -> Caller:
        """The caller that this key belongs to. Raises InvalidKey, DatabaseUnavailable."""
        presented = parse_key(text)
        if presented is None:
            raise InvalidKey
        known = await self._cached_key(presented.public_id)
        key = None if known is None else known.key
        at = now()
        good = presented.matches(key.secret_hash if key else NO_HASH)
        previous = key.previous_hash if key else None
        still = key is not None and key.previous_until is not None and at < key.previous_until
        good_before = presented.matches(previous or NO_HASH) and still
        if known is None or key is None or not (good or good_before):
            raise InvalidKey(KeyRefusal.UNKNOWN)
        if not key.is_valid(at):
            raise InvalidKey(KeyRefusal.REVOKED if key.revoked_at else KeyRefusal.EXPIRED)
        self._used[row_id(key)] = at
        return Caller(key.name, frozenset(map(Scope, key.scopes)), known.granted, rates_of(key))

    async def _cached_key(self, public_id: str) -> KeyWithGrants | None:
        # one look each: an entry may expire between two
        if (fresh := self._fresh.get(public_id)) is not None:
            return fresh
        if self._unknown.get(public_id):
            return None
        before = self._known_good.get(public_id)
        try:
            known = await self._reader.read(public_id, is_known=before is not None)
        except DatabaseUnavailable:
            if before is not None:
                return before
            raise
        if known is None:
            self._unknown[public_id] = True
        else:
            self._fresh[public_id] = self._known_good[public_id] = known
        return known

    def forget_grants(self) -> None:
        """Reread grants at the next request; other servers do so within a second."""
        self._fresh.clear()
        self._known_good.clear()  # a revoked grant must not survive in it during an outage

    # ---- looking up ----------------------------------------------------------------------

    async def keys(
        self, *, limit: int, page_token: str | None = None, tenant: str | None = None
    ) -> Page[ApiKey]:
        """One page, the oldest first, including revoked ones: all, or a tenant's.

        Raises InvalidPageToken.
        """
        after = number_of(page_token)
        async with self._database.read_session() as session:
            statement = select(ApiKey).where(col(ApiKey.id) > after)
            if tenant is not None:
                statement = statement.where(col(ApiKey.name).startswith(f"{tenant}~"))
            ordered = statement.order_by(col(ApiKey.id)).limit(limit + 1)
            rows = (await session.execute(ordered)).scalars().all()
        found = rows[:limit]
        return Page(found, token_after(row_id(found[-1])) if len(rows) > limit else None)

    async def key(self, name: str) -> ApiKey:
        """Raises UnknownKey."""
        async with self._database.read_session() as session:
            return await _key_by_name(session, name)

    # ---- changes ------------------------------------------------------------------------

    async def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        actor: str,
        expires_at: datetime | None = None,
        limits: RateLimits | None = None,
    ) -> tuple[str, ApiKey]:
        """The key itself, which can't be read again; one named `acme~app` is a tenant's.

        Raises KeyExists, UnknownTenant.
        """
        text, presented = new_key()
        key = ApiKey(
            public_id=presented.public_id,
            name=name,
            secret_hash=presented.secret_hash,
            scopes=sorted(set(scopes)),
            created_by=actor,
            expires_at=expires_at,
            **({} if limits is None else asdict(limits)),
        )
        try:
            async with self._database.transaction(for_catalog=False) as session:
                await check_tenant_exists(session, name)
                await check_number_of_keys(session, name)
                session.add(key)
                await session.flush()
                session.add(_event(EventKind.KEY_CREATED, key, actor, scopes=key.scopes))
        except IntegrityError:
            raise KeyExists(name) from None
        return text, key

    async def change(self, name: str, limits: Mapping[str, int | None], *, actor: str) -> ApiKey:
        """Change the given limits only. Raises UnknownKey, KeyRevoked."""
        async with self._database.transaction(for_catalog=False) as session:
            key = await _key_by_name(session, name, lock=True)
            if key.revoked_at is not None:
                raise KeyRevoked(name)
            for field, value in limits.items():
                setattr(key, field, value)
            session.add(_event(EventKind.KEY_CHANGED, key, actor, limits=dict(limits)))
        self._forget(key)
        return key

    async def rotate(self, name: str, *, keep: timedelta, actor: str) -> tuple[str, ApiKey]:
        """A new secret; the old one stays valid for `keep`. Raises UnknownKey, KeyRevoked."""
        text, presented = new_key()
        async with self._database.transaction(for_catalog=False) as session:
            key = await _key_by_name(session, name, lock=True)
            if key.revoked_at is not None:
                raise KeyRevoked(name)
            text = text.replace(presented.public_id, key.public_id)
            key.previous_hash, key.previous_until = key.secret_hash, now() + keep
            key.secret_hash = presented.secret_hash
            session.add(_event(EventKind.KEY_ROTATED, key, actor))
        self._forget(key)
        return text, key

    async def revoke(self, name: str, *, actor: str) -> ApiKey:
        """Revoke the key; idempotent. Raises UnknownKey, LastAdminKey."""
        async with self._database.transaction(for_catalog=False) as session:
            others = [] if tenant_of(name) else await lock_platform_keys(session)
            key = await _key_by_name(session, name, lock=True)
            if key.revoked_at is None:
                check_not_last_admin(others, key)
                key.revoked_at = now()
                session.add(_event(EventKind.KEY_REVOKED, key, actor))
        self._forget(key)
        return key

    def _forget(self, key: ApiKey) -> None:
        self._fresh.pop(key.public_id, None)
        self._known_good.pop(key.public_id, None)

    # ---- last use -------------------------------------------------------------

    async def run(self) -> None:
        """Save periodically when keys were last used, until cancelled."""
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            try:
                await self.save_last_used()
            except DatabaseUnavailable as error:
                logger.warning("the last uses of keys could not be saved: %s", error.detail)

    async def save_last_used(self) -> None:
        """Raises DatabaseUnavailable; then these uses are saved with the next."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._save(used)
        except BaseException:
            self._used = {**used, **self._used}
            raise

    async def _save(self, used: Mapping[int, datetime]) -> None:
        async with self._database.transaction(for_catalog=False) as session:
            for id_, at in used.items():
                change = update(ApiKey).where(col(ApiKey.id) == id_).values(last_used_at=at)
                await session.execute(change.execution_options(synchronize_session=False))


async def _key_by_name(session: AsyncSession, name: str, *, lock: bool = False) -> ApiKey:
    statement = select(ApiKey).where(col(ApiKey.name) == name)
    if lock:
        statement = statement.with_for_update()
    key = (await session.execute(statement)).scalar_one_or_none()
    if key is None:
        raise UnknownKey(name)
    return key


def _event(kind: EventKind, key: ApiKey, actor: str, **more: Any) -> Event:
    address = client_address()
    return Event(actor=actor, address=address, kind=kind, data={"key": key.name, **more})
