"""Which databases can be named, and what becomes of a name that can't be used."""

import pytest
from pydantic import ValidationError

from registry.database.urls import async_url, check_url
from registry.settings import RegistrySettings


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite+aiosqlite:////srv/a.db", "sqlite+aiosqlite:////srv/a.db"),
        ("postgresql://me:pass@host:5433/d", "postgresql+asyncpg://me:pass@host:5433/d"),
        ("postgres://me@host/d", "postgresql+asyncpg://me@host/d"),
        ("postgresql://me@/d?host=/run/pg", "postgresql+asyncpg://me@/d?host=/run/pg"),
        (
            "postgresql://me:p%40ss@host/d?sslmode=require",
            "postgresql+asyncpg://me:p%40ss@host/d?ssl=require",
        ),
    ],
)
def test_a_url_as_people_write_it_is_used(written: str, used: str) -> None:
    assert check_url(written) == async_url(written) == used
    assert RegistrySettings(database_url=written).database_url == used


@pytest.mark.parametrize(
    "written",
    [
        "",
        "registry.db",
        "mysql://me@host/d",
        "sqlite+pysqlite:///a.db",
        "postgresql+psycopg://me@host/d",
        "postgresql://me@host:x/d",
        "postgresql://me@host/d?channel_binding=require",
    ],
)
def test_any_other_is_refused_at_the_start(written: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///FILE|channel_binding"):
        check_url(written)
    with pytest.raises(ValidationError) as refused:
        RegistrySettings(database_url=written)
    assert refused.value.error_count() == 1
