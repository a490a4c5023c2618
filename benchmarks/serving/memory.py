"""Memory over many loads and evictions, one adapter after the other."""

import psutil
import torch

from benchmarks.common.client import Client
from benchmarks.serving.plan import Plan


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
    server = psutil.Process(pid)
    family = [server, *server.children(recursive=True)]
    return sum(process.memory_full_info().uss for process in family)


def _device_bytes() -> int:
    """In use on the whole device."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)
