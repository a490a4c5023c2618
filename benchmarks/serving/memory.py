"""Memory over many loads and evictions, one adapter after the other, and what a server takes."""

import shutil
import subprocess

import psutil
import torch

from benchmarks.common.client import Client
from benchmarks.serving.plan import Plan


async def memory(_: Client, plan: Plan) -> dict[str, float]:
    """Of the server and all its processes; shared pages count in part for each."""
    family = _family(plan.process)
    host = sum(process.memory_full_info().pss for process in family)
    return {"host MB": host / 1e6, "device MB": _device_megabytes({p.pid for p in family})}


def _device_megabytes(processes: set[int]) -> float:
    if shutil.which("nvidia-smi") is None:
        return 0.0
    query = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    said = subprocess.run(["nvidia-smi", *query], check=True, capture_output=True, text=True)
    rows = [line.split(",") for line in said.stdout.splitlines() if line]
    return sum(float(used) for pid, used in rows if int(pid) in processes) * 2**20 / 1e6


async def cycles(asking: Client, plan: Plan) -> dict[str, float]:
    """Each request's adapter is loaded from disk and evicted again; memory before and after."""
    warm = plan.host_capacity + plan.slots + 20
    for model in plan.next_cold(warm):
        await asking.ask(model, max_tokens=1)
    host_before, device_before = _host_bytes(plan.process), _device_bytes()
    answers = [await asking.ask(model, max_tokens=1) for model in plan.next_cold(plan.cycles)]
    host_after, device_after = _host_bytes(plan.process), _device_bytes()
    return {
        "cycles": len(answers),
        "errors": sum(answer.error is not None for answer in answers),
        "host MB before": host_before / 1e6,
        "host growth": host_after / host_before - 1,
        "device growth bytes": device_after - device_before,
    }


def _host_bytes(pid: int) -> int:
    """Unique memory of the server and all its processes."""
    return sum(process.memory_full_info().uss for process in _family(pid))


def _family(pid: int) -> list[psutil.Process]:
    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


def _device_bytes() -> int:
    """In use on the whole device."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)
