"""Table of what the caches of servers did: about a minute of one server in each row."""

from typing import Any

from sqlalchemy import BigInteger, Column, LargeBinary
from sqlmodel import Field

from registry.models.base import Table, json_column

MAX_NAME_LENGTH = 256
"""Of a server, or of a server and its replica."""


class CacheHistory(Table, table=True):
    """What one server's cache held at the start, and what changed until the end.

    Times are microseconds since 1970. `totals` are counts over all adapters, `content` is a packed
    document that only the engine reads. A row is deleted once it has expired, by any server.
    """

    __tablename__ = "cache_history"

    server: str = Field(primary_key=True, max_length=MAX_NAME_LENGTH)
    began_at: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    ended_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    totals: dict[str, Any] = Field(default_factory=dict, sa_column=json_column("{}"))
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
