"""Outages: errors of the database that are not the statement's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from registry.errors import DatabaseUnavailable

# Errors of the statement itself. All others are outages: asyncpg's errors for a server that stops,
# starts or was killed have no common class, and SQLite's for a broken file are DatabaseError.
_STATEMENT_ERRORS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


@contextmanager
def translate_outages() -> Iterator[None]:
    """Raise DatabaseUnavailable for errors that are outages."""
    try:
        yield
    except _STATEMENT_ERRORS:
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        shown = str(cause) or type(cause).__name__
        raise DatabaseUnavailable(f"the database can't be used now: {shown}") from error
