"""Table of registrations per tenant, kept for one hour to enforce the hourly limit."""

from datetime import datetime

from sqlalchemy import Column, Index
from sqlmodel import Field

from registry.models.base import BIG_ID, Table, UtcDateTime, now


class TenantRegistration(Table, table=True):
    """One requested registration, whatever its outcome. Rows older than an hour are deleted."""

    __tablename__ = "tenant_registration"
    __table_args__ = (
        Index("ix_tenant_registration_at", "tenant", "at"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    tenant: str = Field(max_length=32)
    at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
