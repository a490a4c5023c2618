"""Values that every part of the engine package speaks of."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

VersionId = NewType("VersionId", int)
"""Row id of a version in the registry; vLLM knows it as `lora_int_id`. Positive, never reused."""


class Tier(StrEnum):
    """Where an adapter can be resident. All that is in the GPU tier is in the host tier too."""

    GPU = "gpu"
    HOST = "host"


class CacheOutcome(StrEnum):
    """What a request found when it asked for its adapter."""

    GPU_HIT = "gpu_hit"  # in a slot
    HOST_HIT = "host_hit"  # in host memory only
    MISS = "miss"  # in neither


class MissCause(StrEnum):
    """Why a missed adapter was not in memory, as far as this process can know."""

    COLD = "cold"  # first use of this adapter
    EVICTED = "evicted"  # this version was resident before
    NEW_VERSION = "new_version"  # another version of the adapter was resident before
    RESTART = "restart"  # this version was resident when a process or an engine ended


class EvictionReason(StrEnum):
    """Why an adapter left a tier."""

    CAPACITY = "capacity"  # least recently used when another one needed its place
    HOST_EVICTED = "host_evicted"  # left its slot because it left the host tier
    REQUESTED = "requested"  # an operator asked for it
    TENANT_LIMIT = "tenant_limit"  # its tenant needed the host bytes for another of its own
    DRIFT = "drift"  # the engine held it, or not, against what the controller thought


class Transition(StrEnum):
    """The two steps on an adapter's way from disk to a slot."""

    DISK_TO_HOST = "disk_to_host"
    HOST_TO_GPU = "host_to_gpu"


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One immutable version of an adapter, as the engine needs to know it.

    `path` is an absolute local folder that stays as long as anything refers to the version.
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

    @property
    def reference(self) -> str:
        """What a person calls it: `name:3`."""
        return f"{self.adapter}:{self.number}"

    @property
    def engine_name(self) -> str:
        """What vLLM calls it. It is part of the prefix-cache key, so it names the weights too."""
        return f"{self.adapter}:{self.number}-{self.digest[:8]}"


@dataclass(frozen=True, slots=True)
class Lease:
    """Proof that an adapter stays in its slot until the lease is given back."""

    version: AdapterVersion
    outcome: CacheOutcome
    wait_seconds: float
    load_seconds: float  # of the disk → host load this request waited for; 0 where there was none


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How long and how many requests may wait for a slot."""

    max_slot_wait_seconds: float = 2.0  # by then a hot adapter should have let the waiter in
    slot_timeout_seconds: float = 120.0  # then the request is given up
    max_waiting: int = 1024
    max_waiting_per_adapter: int = 256
