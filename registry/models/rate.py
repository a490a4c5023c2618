"""Table of rates: what was used in a minute, where several servers count together."""

from sqlalchemy import BigInteger, Column
from sqlmodel import Field

from registry.models.base import Table, bytewise_string


class RateCount(Table, table=True):
    """What one key or tenant used in one minute. Rows older than two minutes are deleted."""

    __tablename__ = "rate_count"

    name: str = Field(sa_column=Column(bytewise_string(256), primary_key=True))
    used: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
