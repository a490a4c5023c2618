"""Last output of a request, as vLLM has put it into the queue of its reader: why it ended."""

from typing import Any

import torch


def ends_by(state: Any, reason: str) -> bool:
    """Of one that generates."""
    completions = getattr(state.queue.output, "outputs", None)
    return isinstance(completions, list) and any(
        each.finish_reason == reason for each in completions
    )


def was_rejected(state: Any) -> bool:
    """By an engine that is being stopped: vLLM reports a request that finished, but is empty."""
    if state.detokenizer is None or state.detokenizer.num_output_tokens():
        return False
    completions = getattr(state.queue.output, "outputs", None)
    return isinstance(completions, list) and all(
        each.finish_reason == "abort" and not each.token_ids for each in completions
    )


def has_no_numbers(state: Any) -> bool:
    """Of one that pools. vLLM tells its clients itself of one that has an `error`."""
    output = state.queue.output
    pooled = getattr(getattr(output, "outputs", None), "data", None)
    is_empty = isinstance(pooled, torch.Tensor) and pooled.numel() == 0
    return is_empty and getattr(output, "error", None) is None
