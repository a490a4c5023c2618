"""Settings of the registry, from the environment (`ADAPTRY_…`) or the command line."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    IPvAnyNetwork,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.database.urls import check_url
from registry.defaults import DATABASE_URL, STORE
from registry.sources.urls import UrlRules

MAX_ALIASES = 256
MOST_ROWS = 2**31 - 1
"""No database counts further: in a LIMIT, more is an error of each statement."""


class RegistrySettings(BaseSettings):
    """Database, store, and which files are accepted."""

    model_config = SettingsConfigDict(
        env_prefix="ADAPTRY_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    database_url: Annotated[str, AfterValidator(check_url)] = Field(
        DATABASE_URL,
        description="sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    )
    base_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$",
        description="Name of the base model: versions are bound to it. Variants of one model, such "
        "as a quantized one, may share it. Unset: the Hub's name and revision, or the folder's.",
    )
    server_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$",
        description="Name of this server among those on its database: it keeps its pins and what "
        "it had in memory under it. Unset: HOST:PORT, on SQLite localhost:PORT.",
    )
    store: Path = Field(STORE, description="Folder of the verified files.")
    source_roots: tuple[Path, ...] = Field(
        (), description="Folders from which adapters may be registered by path."
    )
    allowed_networks: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Private networks that may be called, such as 10.0.0.0/8."
    )
    source_urls: tuple[str, ...] = Field(
        ("hf://",),
        description="Where adapters may be fetched from: hf://ORG, s3://BUCKET, https://HOST, …",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="MLflow server whose models mlflow:/NAME/3 and mlflow:/NAME@ALIAS mean. Unset: "
        "MLFLOW_TRACKING_URI. Credentials: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD.",
    )
    plain_registries: tuple[str, ...] = Field(
        (),
        description="OCI registries that are read without TLS, HOST or HOST:PORT, beside those on "
        "loopback.",
    )
    max_adapter_bytes: PositiveInt = Field(8 * 2**30, description="Largest adapter accepted.")
    max_direct_bytes: NonNegativeInt = Field(
        128 * 2**20, description="Folders and uploads up to this size are registered immediately."
    )
    max_source_files: PositiveInt = Field(
        1000, description="Maximum number of files in an archive or an upload."
    )
    max_training_file_bytes: PositiveInt = Field(
        64 * 2**20,
        le=64 * 2**20,
        description="Largest file beside an adapter (tokenizer, chat template, …) that is compared "
        "with the base model's; a larger one counts as absent, with a remark.",
    )
    max_ingests: PositiveInt = Field(2, description="Jobs running concurrently.")
    max_tenant_jobs: PositiveInt = Field(
        1000, le=MOST_ROWS, description="Jobs of one tenant that have not ended; more get 429."
    )
    max_uploads: PositiveInt = Field(8, description="Concurrent uploads; more get 429.")
    ingest_timeout_seconds: PositiveFloat = Field(
        3600.0, description="An upload, or an attempt to fetch an adapter, ends after this."
    )
    ingest_attempts: PositiveInt = Field(5, description="Attempts before a job fails.")
    job_retention_days: PositiveFloat = Field(
        30.0, le=36_500, description="How long finished jobs are kept."
    )
    max_import_bytes: PositiveInt = Field(2**40, description="Largest archive imported.")
    max_aliases: PositiveInt = Field(MAX_ALIASES, description="Most aliases of one adapter.")
    require_keys: bool | None = Field(
        None,
        description="Require API keys. Unset: not on loopback, and other addresses are refused.",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Proxies whose X-Forwarded-For is trusted, such as 10.0.0.5/32."
    )
    address_requests_per_minute: PositiveInt | None = Field(
        None,
        description="Most requests per minute from one address (IPv6: a /64), before their keys "
        "are looked at. Unset: no limit.",
    )
    share_rates: bool = Field(
        False,
        description="Count the rates of keys and tenants in the database, together with the other "
        "servers on it.",
    )
    rates_url: SecretStr | None = Field(
        None,
        description="Redis in which the rates of keys and tenants are counted, together with the "
        "other servers that name it: redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… "
        "or unix://PATH. Needs adaptry[redis].",
    )
    event_streams: PositiveInt = Field(100, description="Maximum number of open event streams.")
    webhook_attempts: PositiveInt = Field(
        12, description="Attempts per webhook message; 12 take about a day."
    )
    webhook_timeout_seconds: PositiveFloat = Field(
        10.0, le=3600, description="Timeout of a webhook's receiver."
    )

    @model_validator(mode="after")
    def _check_rates_url(self) -> Self:
        if self.rates_url is None:
            return self
        if self.share_rates:
            raise ValueError("share_rates and rates_url: rates are counted in one place only")
        if not self.rates_url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("rates_url begins with redis://, rediss:// or unix://")
        if find_spec("redis") is None:
            raise ValueError("rates_url needs what adaptry[redis] installs beside the server")
        return self

    @field_validator("source_urls")
    @classmethod
    def _check_source_urls(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        UrlRules(rules)
        return rules
