"""Settings of a guest, from the environment of `vllm serve`."""

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class GuestSettings(BaseSettings):
    """Of a vLLM that is a guest: see [Serve from a stock vLLM](../howto/guests.md)."""

    model_config = SettingsConfigDict(
        env_prefix="ADAPTRY_GUEST_", extra="ignore", frozen=True, allow_inf_nan=False
    )

    registry: str | None = Field(
        None,
        description="URL of the server whose adapters are served; without it, none are.",
    )
    api_key: SecretStr | None = Field(
        None, description="A key that may read files: scope operate or publish."
    )
    base_id: str | None = Field(
        None,
        max_length=400,
        description="What this vLLM's base model is called in the registry: a server's "
        "`--base-id`, or `NAME#DIGEST` from `adaptry base list --json`. Default: by its files.",
    )
    files: Path = Field(Path("~/.cache/adaptry/guest"), description="Folder for fetched adapters.")
    files_bytes: PositiveInt = Field(
        50 * 2**30,
        description="Most bytes there. The least recently used go, except those vLLM may need.",
    )
    load_seconds: PositiveFloat = Field(
        240.0,
        description="How long the registry may take over a load or an unload: it waits 60 s each "
        "for another one of the same name and for the fetch, and `ADAPTRY_LOAD_TIMEOUT_SECONDS` "
        "for its own engine.",
    )
    follow_seconds: PositiveFloat = Field(
        1.0, description="Interval at which names are resolved again."
    )
