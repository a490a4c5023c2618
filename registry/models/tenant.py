"""Tables of tenants and of the adapters granted to them."""

from datetime import datetime

from sqlalchemy import BigInteger, Column
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string, now


class Tenant(Table, table=True):
    """A namespace of adapters. A null limit means no limit."""

    __tablename__ = "tenant"

    name: str = Field(sa_column=Column(bytewise_string(32), primary_key=True))
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    created_by: str = Field(max_length=256)
    max_requests_in_flight: int | None = None
    max_slots: int | None = None
    max_host_bytes: int | None = Field(default=None, sa_type=BigInteger)
    max_pins: int | None = None
    max_storage_bytes: int | None = Field(default=None, sa_type=BigInteger)
    max_registrations_per_hour: int | None = None
    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = Field(default=None, sa_type=BigInteger)
    max_bytes_per_minute: int | None = Field(default=None, sa_type=BigInteger)


class AdapterGrant(Table, table=True):
    """Permission for a tenant to use an adapter of another owner."""

    __tablename__ = "adapter_grant"

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    tenant: str = Field(
        sa_column=Column(bytewise_string(32), primary_key=True, index=True, nullable=False)
    )
    granted_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    granted_by: str = Field(max_length=256)
