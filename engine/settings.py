"""Engine settings, from the environment (`ADAPTRY_…`) or a profile."""

from pathlib import Path
from typing import Self

from pydantic import ByteSize, Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.types import AdmissionLimits, EvictionPolicy, GrammarLimits

MIN_TRACE_BYTES = 2**20


class EngineSettings(BaseSettings):
    """Slots, host capacity and rank are arguments of vLLM and not repeated here."""

    model_config = SettingsConfigDict(
        env_prefix="ADAPTRY_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    max_slot_wait_seconds: PositiveFloat = Field(
        2.0,
        description="Target for the wait for a slot: hot adapters are drained to meet it.",
    )
    slot_timeout_seconds: PositiveFloat = Field(
        120.0, description="A request that has waited this long for a slot fails with 503."
    )
    max_waiting: PositiveInt = Field(
        1024, description="Most waiting requests; further ones get 429."
    )
    max_waiting_per_adapter: PositiveInt = Field(
        256, description="Most waiting requests for one adapter; further ones get 429."
    )
    max_loads: PositiveInt = Field(
        2,
        description="Most adapters loaded from disk in parallel, beside up to six that take longer "
        "than 5 seconds.",
    )
    eviction_policy: EvictionPolicy = Field(
        EvictionPolicy.ADAPTIVE,
        description="Who leaves a slot or host memory first: see *Eviction policies*.",
    )
    shadow_policy: EvictionPolicy | None = Field(
        None,
        description="A candidate that runs beside the eviction policy on the same lookups, to show "
        "what it would have hit.",
    )
    load_timeout_seconds: PositiveFloat = Field(
        60.0, description="A load from disk that takes longer fails."
    )
    host_cache_bytes: ByteSize | None = Field(
        None, description="Most host memory for adapters, such as `8GiB`."
    )
    default_adapter: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Adapter for requests that name the base model or nothing: a reference or a "
        "served name, of which a tenant may have its own. Unset: the base model answers them.",
    )
    max_body_bytes: PositiveInt = Field(32 * 2**20, description="Largest request body accepted.")
    max_body_memory: PositiveInt | None = Field(
        None,
        description="Most bytes of all request bodies at work together, uploads excluded; further "
        "ones get 503. Unset: sixteen times the largest body.",
    )
    max_body_values: PositiveInt = Field(
        2**18,
        description="Most values in the JSON of a request body: one for each item of a list, such "
        "as a token id, and sixteen for each member of an object.",
    )
    max_grammar_bytes: PositiveInt = Field(
        2**16, description="Largest grammar, schema or list of choices in `structured_outputs`."
    )
    max_grammar_size: PositiveInt = Field(
        2000,
        description="Largest size of a grammar with its repetitions written out (`{m,n}`, "
        "`maxLength`, `maxItems`).",
    )
    max_grammar_choices: PositiveInt = Field(
        1000, description="Most values of `choice` in `structured_outputs`."
    )
    new_grammars_per_minute: PositiveInt = Field(
        60,
        description="Most grammars that a tenant, or a key without one, may begin to use in a "
        "minute; further ones get 429. One that was used before is not counted.",
    )
    max_stored_responses: PositiveInt = Field(
        1000,
        description="Most responses that have ended and that `VLLM_ENABLE_RESPONSES_API_STORE` "
        "keeps in memory, with their messages and events; the oldest of the tenant with most make "
        "room.",
    )
    max_stored_responses_bytes: ByteSize = Field(
        ByteSize(256 * 2**20),
        description="Most bytes of these responses, their messages and events, written as JSON; "
        "one that is larger by itself is not kept.",
    )
    max_api_body_bytes: PositiveInt = Field(
        2**20, description="Largest request body for `/api/`, except uploads and imports."
    )
    body_timeout_seconds: PositiveFloat = Field(
        60.0, description="Time to receive a request's body, plus a second for each 16 KiB of it."
    )
    max_header_bytes: PositiveInt = Field(
        64 * 2**10, description="Largest request line, and largest total of its headers."
    )
    max_headers: PositiveInt = Field(256, description="Most headers in a request.")
    header_timeout_seconds: PositiveFloat = Field(
        30.0, description="A connection that has not sent a request's headers by then is closed."
    )
    stalled_reader_seconds: PositiveFloat = Field(
        60.0,
        description="A client that does not read its response for this long is disconnected.",
    )
    silent_speaker_seconds: PositiveFloat = Field(
        60.0,
        description="A client of `/v1/realtime` that sends nothing for this long, while its "
        "transcription waits for audio, is disconnected: it holds a slot.",
    )
    silent_answer_seconds: PositiveFloat = Field(
        600.0,
        description="In front of stock vLLM servers or replicas: an answer of which nothing comes "
        "for this long is given up with 504. Of one that is not a stream nothing comes before its "
        "end. A replica has the time to wait for a slot besides.",
    )
    max_adapter_labels: PositiveInt = Field(
        100, description="Most adapters with their own metrics label; all others share `_other`."
    )
    reconcile_seconds: PositiveFloat = Field(
        10.0, description="How often the controller compares its state with the engine's."
    )
    engine_hang_seconds: PositiveFloat = Field(
        120.0, description="An engine that does not respond for this long is replaced."
    )
    save_residents_seconds: PositiveFloat = Field(
        30.0,
        description="How often the adapters in host memory are recorded, for the next start.",
    )
    local_copies: Path | None = Field(
        None,
        description="Folder on a local disk for copies of the files that are loaded, for a store "
        "that is remote. Several engines may share it.",
    )
    local_copies_bytes: ByteSize = Field(
        ByteSize(50 * 2**30),
        description="Most disk space for the copies of one engine. The least recently used are "
        "removed, but none that it may read again.",
    )
    trace_bytes: ByteSize = Field(
        ByteSize(64 * 2**20),
        description="Most disk space for the trace of requests, about 120 bytes each; the oldest "
        "make room. 0: none is recorded.",
    )
    trace_folder: Path | None = Field(
        None,
        description="Folder of the trace, in which each server has its own. "
        "Unset: `traces` beside the store.",
    )
    history_hours: float = Field(
        24.0,
        ge=0,
        le=24 * 366,
        description="How long the database keeps what the cache did, for `adaptry cache history` "
        "and the console. 0: none is recorded.",
    )
    history_bytes: ByteSize = Field(
        ByteSize(64 * 2**20),
        description="Most bytes of this server's history in the database; the oldest make room.",
    )
    grafana_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="Address of the Grafana that has Adaptry's dashboards, for the console's links "
        "to the same time.",
    )
    preload: tuple[str, ...] = Field(
        (), description="References of adapters to load into host memory before serving."
    )

    @model_validator(mode="after")
    def _check_body_memory(self) -> Self:
        largest = max(self.max_body_bytes, self.max_api_body_bytes)
        if self.max_body_memory is not None and self.max_body_memory < largest:
            raise ValueError(f"max_body_memory is less than one body may have: {largest} bytes")
        return self

    def silent_request_seconds(self) -> float:
        """Longest time in which a request to a replica may answer nothing."""
        return self.slot_timeout_seconds + self.silent_answer_seconds

    @field_validator("trace_bytes")
    @classmethod
    def _check_trace_bytes(cls, size: ByteSize) -> ByteSize:
        if 0 < size < MIN_TRACE_BYTES:
            raise ValueError(f"0 switches the trace off; else it has at least {MIN_TRACE_BYTES}")
        return size

    def body_memory(self) -> int:
        """Most bytes of all bodies at work."""
        return self.max_body_memory or 16 * max(self.max_body_bytes, self.max_api_body_bytes)

    def grammar_limits(self) -> GrammarLimits:
        return GrammarLimits(
            max_bytes=self.max_grammar_bytes,
            max_size=self.max_grammar_size,
            max_choices=self.max_grammar_choices,
            new_per_minute=self.new_grammars_per_minute,
        )

    def limits(self) -> AdmissionLimits:
        return AdmissionLimits(
            max_slot_wait_seconds=self.max_slot_wait_seconds,
            slot_timeout_seconds=self.slot_timeout_seconds,
            max_waiting=self.max_waiting,
            max_waiting_per_adapter=self.max_waiting_per_adapter,
        )
