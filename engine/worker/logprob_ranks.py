"""Ranks of log probabilities, counted without a compiler.

vLLM compiles the function that counts them when a first request asks for log probabilities: inside
a step of the engine, for seconds, while every stream of every caller waits. It does so to spare a
copy of all log probabilities; here some rows at a time are compared.

Patches `batched_count_greater_than` of `vllm.v1.sample.sampler` (0.26 to 0.33).
"""

import torch
from vllm.v1.sample import sampler

_BYTES_AT_A_TIME = 64 * 2**20


def count_at_least(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """For each row, how many elements are not less than its value: vLLM's own, row for row.

    `x`: (rows, elements); `values`: (rows, 1). Returns (rows,).
    """
    rows = max(1, _BYTES_AT_A_TIME // x.shape[1])
    if x.shape[0] <= rows:
        return (x >= values).sum(-1)
    parts = zip(x.split(rows), values.split(rows), strict=True)
    return torch.cat([(some >= value).sum(-1) for some, value in parts])


def count_ranks_uncompiled() -> None:
    """Call in a worker's process, before the first step."""
    sampler.batched_count_greater_than = count_at_least
