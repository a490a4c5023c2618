"""The engine's settings, from the environment (`ADAPTRY_…`) or a profile."""

from pathlib import Path

from pydantic import ByteSize, Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.types import AdmissionLimits


class EngineSettings(BaseSettings):
    """Slots, host capacity and rank are vLLM's own arguments and are not repeated here."""

    model_config = SettingsConfigDict(env_prefix="ADAPTRY_", extra="forbid", frozen=True)

    max_slot_wait_seconds: PositiveFloat = Field(
        2.0, description="By then a hot adapter should have let the waiting one in."
    )
    slot_timeout_seconds: PositiveFloat = Field(
        120.0, description="After this wait for a slot a request is given up with 503."
    )
    max_waiting: PositiveInt = Field(1024, description="Requests that may wait; then 429.")
    max_waiting_per_adapter: PositiveInt = Field(
        256, description="Requests for one adapter that may wait; then 429."
    )
    max_loads: PositiveInt = Field(2, description="Adapters loaded from disk side by side.")
    load_timeout_seconds: PositiveFloat = Field(
        60.0, description="After this time a load from disk is given up."
    )
    host_cache_bytes: ByteSize | None = Field(
        None, description="Most that the adapters in host memory may take, such as `8GiB`."
    )
    max_body_bytes: PositiveInt = Field(32 * 2**20, description="Largest request body accepted.")
    max_api_body_bytes: PositiveInt = Field(
        2**20, description="The same for `/api/`, but for uploads and imports."
    )
    body_timeout_seconds: PositiveFloat = Field(
        60.0, description="A request's body has this time, and a second more for each 16 KiB."
    )
    max_header_bytes: PositiveInt = Field(
        64 * 2**10, description="A request's line, or all of its headers, that is accepted."
    )
    max_headers: PositiveInt = Field(256, description="Most headers of a request.")
    header_timeout_seconds: PositiveFloat = Field(
        30.0, description="A connection whose request has not begun by then is closed."
    )
    stalled_reader_seconds: PositiveFloat = Field(
        60.0, description="A client that reads nothing of its response for so long is disconnected."
    )
    max_adapter_labels: PositiveInt = Field(
        100, description="Adapters with a metrics label of their own; the rest is `_other`."
    )
    reconcile_seconds: PositiveFloat = Field(
        10.0, description="How often the controller compares its picture with the engine's."
    )
    engine_hang_seconds: PositiveFloat = Field(
        120.0, description="An engine that does not answer for so long is replaced."
    )
    save_residents_seconds: PositiveFloat = Field(
        30.0, description="How often it is saved who is in host memory, for the next start."
    )
    local_copies: Path | None = Field(
        None,
        description="Folder on a disk of this machine for copies of the files that are loaded, "
        "where the store is far away. Several engines may share it.",
    )
    local_copies_bytes: ByteSize = Field(
        ByteSize(50 * 2**30),
        description="Most that the copies of one engine take. The longest unused go, but none "
        "that it may read again.",
    )
    preload: tuple[str, ...] = Field(
        (), description="References of adapters that are in host memory before it serves."
    )

    def limits(self) -> AdmissionLimits:
        return AdmissionLimits(
            max_slot_wait_seconds=self.max_slot_wait_seconds,
            slot_timeout_seconds=self.slot_timeout_seconds,
            max_waiting=self.max_waiting,
            max_waiting_per_adapter=self.max_waiting_per_adapter,
        )
