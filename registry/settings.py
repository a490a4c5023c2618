"""The registry's settings, from the environment (`ADAPTRY_…`) or the command line."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.db import check_url

HOME = Path(".adaptry")


class RegistrySettings(BaseSettings):
    """Where rows and files are kept, and which files are let in."""

    model_config = SettingsConfigDict(env_prefix="ADAPTRY_", extra="forbid", frozen=True)

    database_url: Annotated[str, AfterValidator(check_url)] = Field(
        f"sqlite+aiosqlite:///{HOME}/registry.db",
        description="sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    )
    store: Path = Field(HOME / "store", description="Folder of the verified files.")
    source_roots: tuple[Path, ...] = Field(
        (), description="Folders from which adapters may be registered by path."
    )
    max_adapter_bytes: PositiveInt = Field(8 * 2**30, description="Largest adapter taken in.")
