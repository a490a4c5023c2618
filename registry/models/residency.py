"""What the engine has to find again after a restart: pins, and who was in memory."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column
from sqlmodel import Field, SQLModel

from registry.models.base import UtcDateTime, now


class Pin(SQLModel, table=True):
    """A version that is kept in a tier until it is unpinned, or until its time is over.

    `replicas`: on how many; null: on all.
    """

    __tablename__ = "pin"
    __table_args__ = (CheckConstraint("tier IN ('gpu', 'host')", name="ck_pin_tier"),)

    version_id: int = Field(foreign_key="version.id", primary_key=True)
    tier: str = Field(max_length=8)
    pinned_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
    replicas: int | None = Field(default=None, nullable=True)


class Resident(SQLModel, table=True):
    """A version that was in host memory when this was written. `position` 0 was used last."""

    __tablename__ = "resident"

    version_id: int = Field(foreign_key="version.id", primary_key=True)
    position: int
