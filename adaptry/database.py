"""`adaptry db …`: the schema of the registry's database."""

from pydantic import ValidationError
from sqlalchemy import make_url

from adaptry.errors import CommandError, UsageError
from registry.db import check_url
from registry.errors import RegistryError
from registry.migrate import upgrade
from registry.settings import RegistrySettings


def upgrade_database(url: str | None) -> str:
    """Bring the database to the newest schema; its URL without a password. Raises CommandError."""
    try:
        given = check_url(url) if url else RegistrySettings().database_url
        shown = make_url(given).render_as_string(hide_password=True)
        upgrade(given)
    except RegistryError as error:
        raise CommandError(error.detail) from error
    except ValidationError as error:
        raise UsageError(f"a setting is wrong: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise UsageError(f"this database URL does not work here: {error}") from error
    return shown
