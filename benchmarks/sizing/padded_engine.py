"""Padded engine: an engine in a process of its own, whose steps are timed on request."""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from benchmarks.common.environment import stay_offline
from benchmarks.common.workload import SHAPES

PROMPT = list(range(20, 28))


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes for one machine. Each slot's adapter has one stream. `lengths`: a generation, short
    and long; `passes`: how often both are timed."""

    shape: str
    slots: int
    lengths: tuple[int, int]
    passes: int
    arguments: dict[str, Any]


class SlotBytes:
    """Worker extension: the memory of the slots."""

    model_runner: Any

    def slot_bytes(self) -> int:
        """Of all slots together."""
        modules = self.model_runner.lora_manager._adapter_manager.modules.values()
        stacked = [s for each in modules for s in (*each.lora_a_stacked, *each.lora_b_stacked)]
        return sum(tensor.numel() * tensor.element_size() for tensor in stacked)


def serve(base: str, chosen: Machine, max_rank: int, parent: Connection) -> None:
    """One engine: is told its adapters' paths, says its slots' bytes, and then the time of a step
    for each number of streams that it is told, until that is None.

    In this process: a daemon can have no process of its own for it.
    """
    stay_offline()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    llm = LLM(
        model=base,
        load_format="dummy",
        dtype=SHAPES[chosen.shape].dtype,
        enable_lora=True,
        max_loras=chosen.slots,
        max_cpu_loras=chosen.slots,
        max_lora_rank=max_rank,
        max_model_len=512,
        max_num_seqs=chosen.slots,
        enable_prefix_caching=False,
        worker_extension_cls=f"{SlotBytes.__module__}.{SlotBytes.__name__}",
        **chosen.arguments,
    )
    (slot_bytes,) = llm.collective_rpc("slot_bytes")
    adapters: list[str] = parent.recv()
    for streams in (1, chosen.slots):
        step_seconds(llm, adapters[:streams], (2, 4), 1)
    parent.send(slot_bytes)
    while (streams := parent.recv()) is not None:
        parent.send(step_seconds(llm, adapters[:streams], chosen.lengths, chosen.passes))


def step_seconds(llm: Any, adapters: Sequence[str], lengths: tuple[int, int], passes: int) -> float:
    """With a stream for each adapter."""
    requests = [LoRARequest(f"a{n}", n, path) for n, path in enumerate(adapters, start=1)]
    prompts = [{"prompt_token_ids": PROMPT} for _ in requests]

    def seconds(tokens: int) -> float:
        parameters = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        began = time.perf_counter()
        llm.generate(prompts, parameters, lora_request=requests, use_tqdm=False)
        return time.perf_counter() - began

    short, long = lengths
    return statistics.median(
        (seconds(long) - seconds(short)) / (long - short) for _ in range(passes)
    )
