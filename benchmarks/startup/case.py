"""Case of the startup benchmark: one engine, from a fresh process to the first outputs, as JSON.

    python -m benchmarks.startup.case MODEL [ADAPTER …]

`benchmarks.startup` runs it.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import vllm

from engine import LLM, SamplingParams

BEGAN = psutil.Process().create_time()
IMPORTED = time.time()
PROMPT = "adaptry="


def start(model: Path, adapters: list[Path], dtype: str) -> dict[str, float]:
    """Seconds by phase. Without adapters, vLLM runs without LoRA, as it would be served alone."""
    llm = _open(model, adapters, dtype)
    ready = time.time()
    once = SamplingParams(temperature=0, max_tokens=1)
    llm.generate(PROMPT, once)
    answered = time.time()
    for adapter in adapters:
        llm.generate(PROMPT, once, lora_request=str(adapter))
    ended = time.time()
    phases = {
        "imports": IMPORTED - BEGAN,
        "engine": ready - IMPORTED,
        "first answer": answered - ready,
        "adapters": ended - answered,
        "total": ended - BEGAN,
    }
    return phases | (_of_adapters(llm, adapters) if adapters else {})


def _open(model: Path, adapters: list[Path], dtype: str) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "max_model_len": 512, "max_num_seqs": 8}
    options |= {"enforce_eager": True, "kv_cache_memory_bytes": 128 * 2**20}
    if adapters:
        return LLM(str(model), max_loras=8, max_cpu_loras=16, max_lora_rank=16, **options)
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # as ours, on the CPU build
    return vllm.LLM(str(model), **options)


def _of_adapters(llm: Any, adapters: list[Path]) -> dict[str, float]:
    """The phases of all adapters together."""
    counted = llm.cache_metrics()
    seconds = {
        transition: counted[f'adaptry_load_seconds_sum{{transition="{transition}"}}']
        for transition in ("disk_to_host", "host_to_gpu")
    }
    began = time.perf_counter()
    for adapter in adapters:
        (adapter / "adapter_model.safetensors").read_bytes()
    return {
        "adapter weights": (read := time.perf_counter() - began),
        "conversion": max(0.0, seconds["disk_to_host"] - read),
        "activation": seconds["host_to_gpu"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("adapters", type=Path, nargs="*")
    parser.add_argument("--dtype", required=True)
    arguments = parser.parse_args()
    print(json.dumps(start(arguments.model, arguments.adapters, arguments.dtype)))


if __name__ == "__main__":
    main()
