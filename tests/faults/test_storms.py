"""Many clients that connect, send something and vanish."""

import asyncio
import json
import random

import pytest

from demo.tasks import prompt_for
from tests.faults.conftest import Victim
from tests.support.traffic.fault_trial import trial

pytestmark = [pytest.mark.servers("faults")]

CLIENTS, CLIENTS_OF_LONG = 100, 300
IDLE_SECONDS = 6  # after 5 the server closes idle connections


def request(chance: random.Random, model: str) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt_for("hello"),
            "max_tokens": 100,
            "stream": chance.random() < 0.5,
            "ignore_eos": True,
        }
    ).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def vanish(served: Victim, chance: random.Random, models: list[str]) -> None:
    assert served.port is not None
    await asyncio.sleep(chance.uniform(0, 5))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    whole = request(chance, chance.choice(models))
    cut = len(whole) if chance.random() < 0.6 else chance.randrange(len(whole))
    try:
        writer.write(whole[:cut])
        await asyncio.sleep(chance.uniform(0, 0.5))
        if cut == len(whole) and chance.random() < 0.3:
            await reader.read(100)
        if chance.random() < 0.5:
            writer.transport.abort()  # with a reset
    except ConnectionError:
        return
    finally:
        writer.close()


def files(served: Victim) -> int:
    family = [served.process, *served.process.children(recursive=True)]
    return sum(process.num_fds() for process in family)


def is_calm(served: Victim) -> bool:
    cache = served.cache()
    leases = sum(resident["leases"] for resident in cache["gpu"])
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    inside = sum(map(served.total, names))
    return not leases and not cache["waiting"] and not cache["loading"] and not inside


async def storm(served: Victim, chance: random.Random, models: list[str], clients: int) -> int:
    """The files that are open once all clients have left."""
    await asyncio.gather(*(vanish(served, chance, models) for _ in range(clients)))
    await asyncio.to_thread(served.wait_until, lambda: is_calm(served), 120)
    await asyncio.sleep(IDLE_SECONDS)
    return await asyncio.to_thread(files, served)


async def test_clients_that_vanish_leave_nothing_behind(served: Victim, is_long: bool) -> None:
    clients = CLIENTS_OF_LONG if is_long else CLIENTS
    chance = random.Random(4)
    async with trial(served, served.kept) as running:
        models = [*running.world.names, "nobody", "tiny-text-tools"]
        await storm(served, chance, models, clients)
    # what is opened once, such as connections of a pool, is open by now
    first = await storm(served, chance, models, clients)
    again = await storm(served, chance, models, clients)
    assert again < first + clients // 20
