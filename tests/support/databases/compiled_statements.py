"""Compiled SQL: one cache for all databases of this process; SQLAlchemy has one for each engine.

Each test opens a database of its own and would compile every statement again; a server opens one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.engine.base import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

STATEMENTS = 5000


def _compiles_as(dialect: DefaultDialect, other: object) -> bool:
    return (
        isinstance(other, DefaultDialect)
        and type(dialect) is type(other)
        and dialect.server_version_info == other.server_version_info
    )


@contextmanager
def compiled_once() -> Iterator[None]:
    """Dialects are part of the keys: those of one kind of server are equal here."""
    shared: LRUCache[Any, Any] = LRUCache(STATEMENTS)
    make = Engine.__init__

    def make_sharing(engine: Engine, *arguments: Any, **options: Any) -> None:
        make(engine, *arguments, **options)
        if engine._compiled_cache is not None:
            engine._compiled_cache = shared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "__init__", make_sharing)
        patch.setattr(DefaultDialect, "__eq__", _compiles_as)
        patch.setattr(DefaultDialect, "__hash__", lambda dialect: hash(type(dialect)))
        yield
