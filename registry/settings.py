"""The registry's settings, from the environment (`ADAPTRY_…`) or the command line."""

from pathlib import Path

from pydantic import Field, IPvAnyNetwork, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

HOME = Path(".adaptry")


class RegistrySettings(BaseSettings):
    """Where rows and files are kept, and which files are let in."""

    model_config = SettingsConfigDict(env_prefix="ADAPTRY_", extra="forbid", frozen=True)

    database_url: str = Field(
        f"sqlite+aiosqlite:///{HOME}/registry.db", description="An async SQLAlchemy URL."
    )
    store: Path = Field(HOME / "store", description="Folder of the verified files.")
    source_roots: tuple[Path, ...] = Field(
        (), description="Folders from which adapters may be registered by path."
    )
    allowed_networks: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Private networks that may be called, such as 10.0.0.0/8."
    )
    max_adapter_bytes: PositiveInt = Field(8 * 2**30, description="Largest adapter taken in.")
