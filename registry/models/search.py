"""Search index tables: terms of adapters and versions, stored in list order."""

from enum import StrEnum

from sqlalchemy import Column, ForeignKey
from sqlmodel import Field

from registry.models.base import Table, bytewise_string

MAX_TERM_LENGTH = 256


class TermKind(StrEnum):
    """Field that a term was taken from."""

    TAG = "tag"
    TARGET_MODULE = "target_module"
    WORD = "word"  # of its texts, in lower case


class AdapterTerm(Table, table=True):
    """One term of an adapter. The key ends with the adapters' list order: by name."""

    __tablename__ = "adapter_term"
    __table_args__ = ({"sqlite_with_rowid": False},)

    kind: str = Field(max_length=16, primary_key=True)
    value: str = Field(sa_column=Column(bytewise_string(MAX_TERM_LENGTH), primary_key=True))
    adapter_name: str = Field(
        sa_column=Column(
            bytewise_string(64), ForeignKey("adapter.name"), primary_key=True, index=True
        )
    )


class VersionTerm(Table, table=True):
    """One term of a version. The key ends with the versions' list order: by row id."""

    __tablename__ = "version_term"
    __table_args__ = ({"sqlite_with_rowid": False},)

    kind: str = Field(max_length=16, primary_key=True)
    value: str = Field(sa_column=Column(bytewise_string(MAX_TERM_LENGTH), primary_key=True))
    version_id: int = Field(foreign_key="version.id", primary_key=True, index=True)
