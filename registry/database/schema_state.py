"""Schema state: the revision of a database beside those that this code has migrations for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Revisions; `current` is None for a database without tables, or one that does not exist yet.

    `missing`: number of migrations to apply. `is_known`: False if this release does not know
    `current`, as after a newer release.
    """

    current: str | None
    newest: str
    missing: int
    is_known: bool

    @classmethod
    def of(cls, current: str | None, revisions: Sequence[str]) -> Self:
        """`revisions`: all there are, the newest first."""
        is_known = current is None or current in revisions
        missing = revisions.index(current) if current in revisions else len(revisions)
        return cls(current, revisions[0], missing if is_known else 0, is_known)
