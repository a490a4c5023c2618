"""Tables that let a server restart warm: its pins and its last host-memory residents.

The rows of a server named '' are from before servers were told apart.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, now


class Pin(Table, table=True):
    """A version that stays in a server's tier until it is unpinned or the pin expires.

    `replicas`: on how many of them; null: on all.
    """

    __tablename__ = "pin"
    __table_args__ = (CheckConstraint("tier IN ('gpu', 'host')", name="ck_pin_tier"),)

    server: str = Field(primary_key=True, max_length=256)
    version_id: int = Field(foreign_key="version.id", primary_key=True)
    tier: str = Field(max_length=8)
    pinned_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
    replicas: int | None = Field(default=None, nullable=True)


class Resident(Table, table=True):
    """A version in a server's host memory at the last save. `position` 0 is the most recent."""

    __tablename__ = "resident"

    server: str = Field(primary_key=True, max_length=256)
    version_id: int = Field(foreign_key="version.id", primary_key=True)
    position: int
