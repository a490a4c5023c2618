"""Plan of a run: the amounts that each scenario uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Plan:
    """On this machine, and of this side."""

    slots: int
    host_capacity: int
    process: int  # the server's
    adapters: Sequence[str]
    streams: int
    hot_streams: int  # together they keep every slot busy
    tokens_per_stream: int
    seconds: float
    loads_per_second: float
    zipf_requests_per_second: Sequence[float]
    zipf_tokens: int
    cycles: int
    stages: Path | None = None  # what the server's timers say, if it has them
    cold_turn: int = 0  # so that no adapter is asked for again while it may be resident

    def next_cold(self, count: int) -> list[str]:
        """Adapters without recent requests; the first ones, as many as slots, are the hot ones."""
        cold = self.adapters[self.slots :]
        chosen = [cold[(self.cold_turn + n) % len(cold)] for n in range(count)]
        self.cold_turn += count
        return chosen
