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

from registry.errors import DatabaseUnavailable, ValueRefused

# Errors of the statement itself. All others are outages: asyncpg's errors for a server that stops,
# starts or was killed have no common class, and SQLite's for a broken file are DatabaseError.
_STATEMENT_ERRORS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)

_OF_SQLITE = "to convert to SQLite INTEGER"  # the driver's, of a number that is too large


@contextmanager
def translate_outages() -> Iterator[None]:
    """Raise DatabaseUnavailable for errors that are outages."""
    try:
        yield
    except _STATEMENT_ERRORS:
        raise
    except OverflowError as error:
        if _OF_SQLITE in str(error):
            raise ValueRefused from error
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        if _is_refused_value(error):
            raise ValueRefused from error
        cause = error.orig if isinstance(error, DBAPIError) else error
        shown = str(cause) or type(cause).__name__
        raise DatabaseUnavailable(f"the database can't be used now: {shown}") from error


def _is_refused_value(error: Exception) -> bool:
    """Of a parameter that PostgreSQL can't hold: its class 22, as asyncpg's own refusals are."""
    sqlstate = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return str(sqlstate or "").startswith("22")
