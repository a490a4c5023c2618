"""Token masks: tokens before an invocation get no adapter, in both of vLLM's model runners.

Hooks into `make_lora_inputs` of the runner's batch, which names an adapter for each token of a
step: `InputBatch` of the first runner, `LoraState` of the second (`vllm.v1.worker.gpu`). Each step
is masked by position, so that neither chunks of a prompt nor a preemption change what is masked.
Only a step with an activated adapter looks at each of its requests: all others wait for that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.activated_lora.marks import is_activated, start_of

Adapters = tuple[int, ...]
Counts = npt.NDArray[Any]


def mask_tokens(
    adapters: Adapters, starts: Sequence[int], computed: Counts, scheduled: Counts
) -> Adapters:
    """The adapters of a step's tokens, 0 before the start of their request.

    `starts`, `computed`, `scheduled`: by request, where its effect begins, how many of its tokens
    were computed before, and how many are in this step.
    """
    masked = np.clip(np.asarray(starts) - computed, 0, scheduled)
    if not masked.any():
        return adapters
    tokens, ends = np.array(adapters), np.cumsum(scheduled)
    for index in masked.nonzero()[0]:
        first = ends[index] - scheduled[index]
        tokens[first : first + masked[index]] = 0
    return tuple(tokens.tolist())


def mask_runner(runner: Any) -> None:
    """Hook into a model runner that has no requests yet."""
    if hasattr(runner, "lora_state"):
        _mask_lora_state(runner)
    else:
        _mask_input_batch(runner)


def is_maskable(runner: Any) -> bool:
    return any(
        hasattr(getattr(runner, name, None), "make_lora_inputs")
        for name in ("lora_state", "input_batch")
    )


def _mask_input_batch(runner: Any) -> None:
    batch, requests = runner.input_batch, runner.requests
    make_lora_inputs = batch.make_lora_inputs

    def make_masked(scheduled: Counts, sampled: Counts) -> tuple[Adapters, Adapters, set[Any]]:
        rows, tokens, active = make_lora_inputs(scheduled, sampled)
        if any(map(is_activated, active)):
            starts = [start_of(requests[each].lora_request) for each in batch.req_ids]
            computed = batch.num_computed_tokens_cpu[: len(starts)]
            tokens = mask_tokens(tokens, starts, computed, scheduled)
        return rows, tokens, active

    batch.make_lora_inputs = make_masked


def _mask_lora_state(runner: Any) -> None:
    state, requests = runner.lora_state, runner.req_states
    make_lora_inputs = state.make_lora_inputs

    def make_masked(
        ids: Sequence[str], indices: Counts, scheduled: Counts
    ) -> tuple[Adapters, Adapters, set[Any]]:
        rows, tokens, active = make_lora_inputs(ids, indices, scheduled)
        if any(map(is_activated, active)):
            starts = [start_of(state.lora_requests.get(each)) for each in ids]
            tokens = mask_tokens(
                tokens, starts, requests.num_computed_tokens_np[indices], scheduled
            )
        return rows, tokens, active

    state.make_lora_inputs = make_masked
