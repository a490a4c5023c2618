"""Table of prompt sets: prompts that versions are compared with, under a name."""

from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, bytewise_string, json_column, now


class PromptSet(Table, table=True):
    """`owner` is the tenant whose set it is, empty for the platform: its names are unique."""

    __tablename__ = "prompt_set"

    owner: str = Field(sa_column=Column(bytewise_string(32), primary_key=True))
    name: str = Field(sa_column=Column(bytewise_string(64), primary_key=True))
    prompts: list[str] = Field(default_factory=list, sa_column=json_column("[]"))
    updated_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    updated_by: str = Field(max_length=256)
