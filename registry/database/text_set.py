"""A set of texts as one value of a statement, however many there are.

Of a list, each text would be a value of its own: databases bound their number (PostgreSQL's driver
at 32,767), and SQLAlchemy writes them all into the statement, in the event loop.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _texts_of(FunctionElement[str]):  # noqa: N801  # a function of SQL
    """All texts of a JSON list."""

    inherit_cache = True


@compiles(_texts_of)
def _sqlite(element: _texts_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **options)}))"


@compiles(_texts_of, "postgresql")
def _postgresql(element: _texts_of, compiler: SQLCompiler, **options: Any) -> str:
    texts = compiler.process(element.clauses, **options)
    return f"(SELECT json_array_elements_text(CAST({texts} AS JSON)))"


def is_one_of(column: Any, texts: Sequence[str]) -> ColumnElement[bool]:
    """For few or many texts."""
    met: ColumnElement[bool] = column.op("IN", is_comparison=True)(_set(texts))
    return met


def is_none_of(column: Any, texts: Sequence[str]) -> ColumnElement[bool]:
    """The opposite."""
    met: ColumnElement[bool] = column.op("NOT IN", is_comparison=True)(_set(texts))
    return met


def _set(texts: Sequence[str]) -> _texts_of:
    return _texts_of(bindparam(None, json.dumps(texts), type_=String, unique=True))
