"""What a guest is told, in the environment of `vllm serve`."""

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class GuestSettings(BaseSettings):
    """All begin with `ADAPTRY_GUEST_`; the key may be `ADAPTRY_API_KEY` too."""

    model_config = SettingsConfigDict(env_prefix="ADAPTRY_GUEST_", extra="ignore")

    registry: Annotated[
        str | None, Field(description="URL of the server whose adapters are served; None: no guest")
    ] = None
    api_key: Annotated[
        SecretStr | None,
        Field(
            description="a key that may read files: scope operate or publish",
            validation_alias=AliasChoices("ADAPTRY_GUEST_API_KEY", "ADAPTRY_API_KEY"),
        ),
    ] = None
    files: Annotated[Path, Field(description="folder for what was fetched")] = Path(
        "~/.cache/adaptry/guest"
    )
    files_bytes: Annotated[int, Field(gt=0, description="most bytes that are kept there")] = (
        50 * 2**30
    )
    follow_seconds: Annotated[
        float, Field(gt=0, description="how often names are looked up again")
    ] = 1.0
