"""Database URLs: which are supported, and their drivers.

SQLAlchemy is imported when one is read: the settings, and so the command line, need only the name.
"""

import re

FILE_URL = re.compile(r"sqlite(?:\+aiosqlite)?:///([^?%]+)")
_ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
# Options that asyncpg accepts in a URL; it does not know libpq's others.
_URL_OPTIONS = {"host", "port", "ssl", "passfile", "service", "servicefile", "target_session_attrs"}


def async_url(url: str) -> str:
    """`sqlite:///file` and `postgresql://…` with the drivers used here; other URLs unchanged.

    libpq's `sslmode` becomes asyncpg's `ssl`, which means the same.
    """
    scheme, separator, rest = url.partition("://")
    whole = _ASYNC_DRIVERS.get(scheme, scheme) + separator + rest
    if "sslmode=" not in rest:
        return whole
    from sqlalchemy import make_url  # noqa: PLC0415  # see the module

    parsed = make_url(whole)
    options = {"ssl" if key == "sslmode" else key: value for key, value in parsed.query.items()}
    return parsed.set(query=options).render_as_string(hide_password=False)


def check_url(url: str) -> str:
    """The URL with its driver. Raises ValueError for an unsupported database."""
    if FILE_URL.fullmatch(url):  # always right: SQLAlchemy would say no more
        return async_url(url)
    from sqlalchemy import make_url  # noqa: PLC0415  # see the module
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        whole = async_url(url)
        parsed = make_url(whole)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        parsed = None
    if parsed is None or parsed.drivername not in _ASYNC_DRIVERS.values():
        raise ValueError("write sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    unknown = set(parsed.query) - _URL_OPTIONS
    if unknown and parsed.get_backend_name() == "postgresql":
        raise ValueError(f"this URL has options that are not known: {', '.join(sorted(unknown))}")
    return whole
