"""Small adapters to upload, and the wait for their registration.

Nothing of the registry is imported here: that takes seconds of CPU, which a stream would notice.
"""

import asyncio
import json

import httpx
import numpy as np

from benchmarks.ingest.large_adapter import MODULE, RANK, tensor

WIDTH = 64
UNFINISHED = ("receiving", "queued", "running")


def small_adapter(number: int, width: int) -> dict[str, bytes]:
    """The files of an adapter with about 2 KiB of weights for a width of 64, no two alike."""
    half = RANK * width * 4
    prefix = f"base_model.model.{MODULE}"
    header = json.dumps(
        {
            f"{prefix}.lora_A.weight": tensor([RANK, width], 0, half),
            f"{prefix}.lora_B.weight": tensor([width, RANK], half, 2 * half),
        }
    ).encode()
    weights = np.random.default_rng(number).uniform(0.5, 1.5, 2 * half // 4).astype("<f4").tobytes()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"]}
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": len(header).to_bytes(8, "little") + header + weights,
    }


async def until_registered(http: httpx.AsyncClient) -> None:
    """Until no job is left to do."""
    for state in UNFINISHED:
        while (await http.get("/jobs", params={"state": state, "limit": 1})).json()["items"]:
            await asyncio.sleep(0.5)
