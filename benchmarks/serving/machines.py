"""Machines of the serving benchmark: shapes, and loads that keep them busy without overload."""

from dataclasses import dataclass, replace

Limit = tuple[float, float]
"""Seconds to the first token, and between two tokens (95 % of the gaps)."""


@dataclass(frozen=True)
class Machine:
    """`ranks`: of the adapters, in turn. `zipf_limits`: if none, three times what is idle takes."""

    shape: str
    ranks: tuple[int, ...]
    adapters: int
    slots: int
    host_capacity: int
    streams: int
    hot_streams: int
    hot_tokens: int
    tokens_per_stream: int
    loads_per_second: float
    zipf_requests_per_second: tuple[float, ...]
    zipf_limits: tuple[Limit, ...]
    zipf_tokens: int
    cycles: int
    prompt_tokens: int
    prompt_lengths: tuple[int, ...]
    prefix_caching: bool
    arguments: tuple[str, ...]

    @property
    def max_rank(self) -> int:
        return max(self.ranks)


_CPU = Machine(
    shape="small",
    ranks=(16,),
    adapters=128,
    slots=2,
    host_capacity=8,
    streams=3,
    hot_streams=8,
    hot_tokens=30,
    tokens_per_stream=120,
    loads_per_second=5.0,
    zipf_requests_per_second=(2.0, 4.0),
    zipf_limits=(),
    zipf_tokens=8,
    cycles=1000,
    prompt_tokens=8,
    prompt_lengths=(64,),
    prefix_caching=False,
    arguments=(
        "--enforce-eager",
        "--max-model-len=512",
        "--max-num-seqs=16",
        "--kv-cache-memory-bytes=134217728",
    ),
)
_H200 = Machine(
    shape="llama-8b",
    ranks=(16,),
    adapters=144,
    slots=16,
    host_capacity=48,
    streams=16,
    hot_streams=32,
    hot_tokens=150,
    tokens_per_stream=300,
    loads_per_second=5.0,
    zipf_requests_per_second=(10.0, 20.0, 40.0),
    zipf_limits=((0.25, 0.025), (0.5, 0.05), (1.0, 0.1)),
    zipf_tokens=64,
    cycles=500,
    prompt_tokens=64,
    prompt_lengths=(64, 2048),
    prefix_caching=True,  # as is vLLM's default; every prompt is a new one
    arguments=(
        "--max-model-len=4096",
        "--max-num-seqs=64",
        "--gpu-memory-utilization=0.3",
        "--kv-cache-memory-bytes=6442450944",  # two engines must not measure what is free
        # several prompts in one step: without a graph that takes 80 ms in place of 30
        '--compilation-config={"cudagraph_capture_sizes": '
        "[1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024]}",
    ),
)
MACHINES = {
    "cpu": _CPU,
    "h200": _H200,
    "h200-mixed": replace(_H200, ranks=(8, 8, 8, 16, 8, 16, 32, 8, 16, 64), adapters=256),
    "h200-tp2": replace(_H200, arguments=(*_H200.arguments, "--tensor-parallel-size=2")),
}
