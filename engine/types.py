"""Value types that the whole engine package shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

VersionId = NewType("VersionId", int)
"""Row id of a version in the registry; vLLM knows it as `lora_int_id`. Positive, never reused."""


class Tier(StrEnum):
    """Where an adapter can be resident. All that is in the GPU tier is in the host tier too."""

    GPU = "gpu"
    HOST = "host"


class CacheOutcome(StrEnum):
    """Where a request found its adapter."""

    GPU_HIT = "gpu_hit"  # in a slot
    HOST_HIT = "host_hit"  # in host memory only
    MISS = "miss"  # in neither


class MissCause(StrEnum):
    """Why a missed adapter was not in memory, as far as this process knows."""

    COLD = "cold"  # first use of this adapter
    EVICTED = "evicted"  # this version was resident before
    NEW_VERSION = "new_version"  # another version of the adapter was resident before
    RESTART = "restart"  # this version was resident when a process or an engine ended


class EvictionReason(StrEnum):
    """Why an adapter left a tier."""

    CAPACITY = "capacity"  # another adapter needed its place
    HOST_EVICTED = "host_evicted"  # left its slot because it left the host tier
    REQUESTED = "requested"  # an operator requested it
    TENANT_LIMIT = "tenant_limit"  # its tenant needed the host bytes for another of its adapters
    DRIFT = "drift"  # the engine and the controller disagreed


class EvictionPolicy(StrEnum):
    """Who leaves a tier first, of those that may leave."""

    ADAPTIVE = "adaptive"  # by recency or by frequency, whichever would have hit more lately
    LOOK_AHEAD = "look-ahead"  # the farthest known use, else the least recently used
    LRU = "lru"  # the least recently used
    LFU = "lfu"  # the least frequently used, with ageing
    S3_FIFO = "s3-fifo"  # what was asked for once, then in rounds
    COST = "cost"  # the cheapest to load again, for its bytes


class Transition(StrEnum):
    """The two steps from disk to a slot: load and activate."""

    DISK_TO_HOST = "disk_to_host"
    HOST_TO_GPU = "host_to_gpu"


class LoadFailure(StrEnum):
    """Why an adapter could not be loaded into memory.

    Only FILES is about the version itself, and only a reason to hash its files again: see
    `registry.lifecycle.condemnation`. All others are about this engine, and end with their cause.
    """

    FILES = "files"  # not those that were registered
    MISSING = "missing"  # not in the store
    STORE = "store"  # it does not answer
    IO = "io"  # the disk failed
    RANK = "rank"  # larger than this engine's
    MODULES = "modules"  # this engine does not serve one of them, or in another shape
    ADAPTER = "adapter"  # vLLM rejects it
    DEVICE = "device"  # the accelerator failed
    MEMORY = "memory"  # out of memory
    THREADS = "threads"  # no thread could be started
    TIMEOUT = "timeout"
    STALLED = "stalled"  # earlier reads hang
    ENGINE = "engine"  # a move failed, the engine died, or an unexpected exception

    @property
    def is_transient(self) -> bool:
        """Another attempt may succeed within seconds."""
        return self in (LoadFailure.IO, LoadFailure.MEMORY, LoadFailure.THREADS)


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One immutable version of an adapter, as the engine needs it.

    `path` is an absolute local folder that exists while anything refers to the version.
    `invocation_tokens`: of an activated adapter, which has no effect before them.
    `chat_template`, `sampling_defaults`: what its requests get instead of the base model's; no part
    of its identity, as they are the adapter's setting.
    """

    id: VersionId
    adapter: str
    number: int
    digest: str
    path: str
    rank: int
    size_bytes: int
    deprecated_at: int | None = None  # in seconds since 1970; None: it is not deprecated
    deprecation_reason: str | None = None
    invocation_tokens: tuple[int, ...] | None = None
    chat_template: str | None = field(default=None, compare=False)
    sampling_defaults: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def reference(self) -> str:
        """`name:3`, for people."""
        return f"{self.adapter}:{self.number}"

    @property
    def engine_name(self) -> str:
        """vLLM's name for it. It is part of the prefix-cache key, so it contains the digest."""
        return f"{self.adapter}:{self.number}-{self.digest[:8]}"


@dataclass(slots=True, unsafe_hash=True)  # never changed: frozen, it takes four times as long
class Lease:
    """A request's right to its adapter's slot, until it is released."""

    version: AdapterVersion
    outcome: CacheOutcome
    wait_seconds: float
    load_seconds: float  # of the load from disk that it waited for; 0 if there was none


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How long and how many requests may wait for a slot."""

    max_slot_wait_seconds: float = 2.0  # by then a hot adapter should have been drained for it
    slot_timeout_seconds: float = 120.0  # then the request fails
    max_waiting: int = 1024
    max_waiting_per_adapter: int = 256


@dataclass(frozen=True, slots=True)
class GrammarLimits:
    """`max_size`: of its repetitions, written out. `new_per_minute`: for each caller."""

    max_bytes: int = 2**16
    max_size: int = 2000
    max_choices: int = 1000
    new_per_minute: int = 60


@dataclass(slots=True, unsafe_hash=True)  # never changed: frozen, it takes four times as long
class WorkDone:
    """What the engine did for one request, its parallel completions together.

    `first_token_at`: in seconds since 1970, as vLLM's clock has it; None if there was no token.
    `shared_prefix_tokens`: those before the invocation of an activated adapter that were found in
    the prefix cache, by the first of its completions.
    """

    prompt_tokens: int
    generated_tokens: int
    first_token_at: float | None
    shared_prefix_tokens: int = 0


@dataclass(slots=True)
class WorkTotals:
    """What the engine did for all prompts of one HTTP request, so far."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    first_token_at: float | None = None

    def add(self, work: WorkDone) -> None:
        self.prompt_tokens += work.prompt_tokens
        self.generated_tokens += work.generated_tokens
        at = work.first_token_at
        if at is not None and (self.first_token_at is None or at < self.first_token_at):
            self.first_token_at = at
