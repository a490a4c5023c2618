"""Table of API keys."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, now


class ApiKey(Table, table=True):
    """One API key; a null limit means no limit.

    After a rotation the previous hash stays valid for a while.

    A revoked key stays in the table: events name it. The names of a tenant's keys begin with the
    tenant's name, as its adapters' do.
    """

    __tablename__ = "api_key"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(max_length=12, unique=True)
    name: str = Field(max_length=64, unique=True)
    secret_hash: str = Field(max_length=64)
    previous_hash: str | None = Field(default=None, max_length=64)
    previous_until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    created_by: str = Field(max_length=256)
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    last_used_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = Field(default=None, sa_type=BigInteger)
    max_bytes_per_minute: int | None = Field(default=None, sa_type=BigInteger)

    def is_valid(self, at: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)
