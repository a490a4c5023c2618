"""Question of `adaptry size`: its options as they were given."""

from dataclasses import dataclass
from pathlib import Path

from engine.types import EvictionPolicy


@dataclass(frozen=True, slots=True)
class Question:
    """A workload, the goal, and what may be chosen to reach it."""

    trace: Path | None
    first_token: float
    share: float
    adapters: int | None
    rate: float | None
    zipf: float
    tokens: int
    prompt_tokens: int
    seconds: float
    adapter_mib: float
    rank: int
    faster: float
    requests: int
    warm: float
    slots: str | None
    host_places: str | None
    replicas: str | None
    eviction_policy: EvictionPolicy | None
    max_rank: int | None
    calibrate: bool
    costs: Path | None
    save_costs: Path | None
    plot: Path | None
    model: str
    server: str
    as_json: bool
