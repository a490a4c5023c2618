"""Unfinished pooling: requests that vLLM's engine ends without numbers, as a pause or its stop.

vLLM's front end takes such an end for one with tokens, and an assertion of it ends the task that
reads for all requests: the engine counts as dead (0.26 to 0.33).
"""

from collections.abc import Iterable
from typing import Any

import torch
from vllm.v1.engine import FinishReason

from engine.errors import GenerationIncomplete


def fill_unfinished_pooling(output_processor: Any) -> None:
    """They get the empty tensor that vLLM's front end itself gives to what it aborts."""
    process = output_processor.process_outputs

    def process_filled(outputs: Iterable[Any], *more: Any, **options: Any) -> Any:
        for output in outputs:
            _fill(output, output_processor.request_states.get(output.request_id))
        return process(outputs, *more, **options)

    output_processor.process_outputs = process_filled


def _fill(output: Any, state: Any) -> None:
    if output.finish_reason is None or output.pooling_output is not None:
        return
    if state is None or state.detokenizer is not None:
        return
    if getattr(output, "mm_cache_miss_hashes", None):  # vLLM does it itself
        return
    output.pooling_output = torch.empty(0)
    if output.finish_reason == FinishReason.ERROR:
        state.queue.put(GenerationIncomplete())
