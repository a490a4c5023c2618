"""The registry's settings, from the environment (`ADAPTRY_…`) or the command line."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, IPvAnyNetwork, PositiveFloat, PositiveInt
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
    allowed_networks: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Private networks that may be called, such as 10.0.0.0/8."
    )
    max_adapter_bytes: PositiveInt = Field(8 * 2**30, description="Largest adapter taken in.")
    max_import_bytes: PositiveInt = Field(2**40, description="Largest archive imported.")
    event_streams: PositiveInt = Field(100, description="Streams of events open at a time.")
    webhook_attempts: PositiveInt = Field(
        12, description="How often a webhook's message is tried; 12 take about a day."
    )
    webhook_timeout_seconds: PositiveFloat = Field(
        10.0, description="How long a webhook's receiver may take to answer."
    )
