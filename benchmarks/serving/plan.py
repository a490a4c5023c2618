"""Plan of a run: the amounts that each scenario uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.machines import Limit


@dataclass
class Plan:
    """On this machine, and of this side."""

    slots: int
    host_capacity: int
    process: int  # the server's
    adapters: Sequence[str]
    weights: Mapping[str, Path]  # the files that this side reads
    streams: int
    hot_streams: int  # together they keep every slot busy
    hot_tokens: int
    tokens_per_stream: int
    seconds: float
    loads_per_second: float
    zipf_requests_per_second: Sequence[float]
    zipf_limits: Sequence[Limit]
    zipf_tokens: int
    cycles: int
    prompt_lengths: Sequence[int]
    stages: Path | None = None  # what the server's timers say, if it has them
    herds: int = 0  # so far
    cold_turn: int = 0  # so that no adapter is asked for again while it may be resident

    def next_cold(self, count: int) -> list[str]:
        """Adapters without recent requests; the first ones, as many as slots, are the hot ones."""
        cold = self.adapters[self.slots :]
        chosen = [cold[(self.cold_turn + n) % len(cold)] for n in range(count)]
        self.cold_turn += count
        return chosen
