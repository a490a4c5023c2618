"""Table of prompt sets: prompts that versions are compared with, under a name."""

from datetime import datetime

from sqlalchemy import BigInteger, Column
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string, json_column, now


class PromptSet(Table, table=True):
    """`owner` is the tenant whose set it is, empty for the platform: its names are unique.

    `size_bytes`: of the prompts in UTF-8, which count as stored by the tenant.
    """

    __tablename__ = "prompt_set"

    owner: str = Field(sa_column=Column(bytewise_string(32), primary_key=True))
    name: str = Field(sa_column=Column(bytewise_string(64), primary_key=True))
    prompts: list[str] = Field(default_factory=list, sa_column=json_column("[]"))
    size_bytes: int = Field(
        default=0, sa_column=Column(BigInteger, nullable=False, server_default="0")
    )
    updated_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    updated_by: str = Field(max_length=256)
