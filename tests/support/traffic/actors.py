"""Who works on the server during a soak: clients, and operators who change everything meanwhile."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak.version_history import FOREVER
from demo.tasks import TASKS, UPPER_V2, Task, prompt_for
from tests.support.traffic.alias_history import AdapterHistory, Answer, judge
from tests.support.traffic.expected_state import Refused, Unsure, World

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_ROUTES = "Path '/v1/completions' not found."
GONE = ((404, "version_retired"), (404, "version_purged"))
ALIASES = ("default", "prod")
WORDS = ("hello", "window", "garden")  # short enough that every adapter has them right
MAX_TOKENS = 20
CONTENTS: list[tuple[Path, Task]] = [
    *((ROOT / "demo" / "adapters" / name, task) for name, task in TASKS.items()),
    (ROOT / "demo" / "adapters-v2" / "upper", UPPER_V2),
]


# ---- those who change things --------------------------------------------------------------


async def register(world: World, name: str, content: int) -> int:
    """The number of the version, which may have been there before. Raises Refused."""
    folder, task = CONTENTS[content]
    body = {"source": str(folder)}
    known, path = world.known[name], f"/adapters/{name}/versions"
    retirement = known.begin_restore(lambda has: has is task)
    answer = await world.operate("register", "POST", path, json=body)
    if retirement is not None:
        if answer["state"] == "ready":
            retirement.restored = time.monotonic()
        else:  # it was retired only, and stays so
            retirement.restore_requested = FOREVER
    number = int(answer["number"])
    known.versions.setdefault(number, task)
    world.registered.add((name, number))
    world.changes += 1
    return number


async def add_adapter(world: World, name: str) -> None:
    """Clients ask for it once it is there."""
    known = world.known[name] = AdapterHistory()
    try:
        with known.move("default", 1):
            await register(world, name, world.random.randrange(len(CONTENTS)))
    except (Refused, Unsure, httpx.TransportError):
        del world.known[name]
        raise
    await move(world, name, "prod", 1)
    world.names.append(name)


async def move(world: World, name: str, alias: str, version: int) -> None:
    known = world.known[name]
    try:
        with known.move(alias, version):
            path = f"/adapters/{name}/aliases/{alias}"
            await world.operate("move", "PUT", path, json={"version": version})
            world.changes += 1
    except Refused:
        return


async def promote_something(world: World) -> None:
    """A new version of something liked, and the alias moved to it; or back to an older one."""
    name = zipf_choice(world)
    known = world.known[name]
    try:
        number = await register(world, name, world.random.randrange(len(CONTENTS)))
    except Refused:
        return
    if known.is_retired(number):
        number = world.random.choice(known.live())
    await move(world, name, world.random.choice(ALIASES), number)


async def retire_something(world: World) -> None:
    """A version that no alias means; and its files go too."""
    name = zipf_choice(world)
    known = world.known[name]
    idle = [number for number in known.live() if number not in known.pointed_at()]
    if not idle:
        return
    number = world.random.choice(idle)
    path = f"/adapters/{name}/versions/{number}"
    try:
        with known.retire(number):
            await world.operate("retire", "POST", f"{path}/retire", json={})
            world.changes += 1
        await world.operate("purge", "POST", f"{path}/purge", json={})
        world.changes += 1
    except Refused:
        return


async def steer_something(world: World) -> None:
    """Pin, unpin, prefetch or evict what clients like most."""
    name = zipf_choice(world)
    what = world.random.choice(("pin", "unpin", "prefetch", "evict"))
    body = {"reference": name}
    try:
        match what:
            case "pin":
                seconds = world.random.uniform(0.5, 5)
                tier = world.random.choice(("gpu", "host"))
                content = {**body, "tier": tier, "ttl_seconds": seconds}
                await world.operate(what, "POST", "/cache/pins", json=content)
            case "unpin":
                await world.operate(what, "DELETE", f"/cache/pins/{name}")
            case _:
                await world.operate(what, "POST", f"/cache/{what}", json=body)
    except Refused:
        return


async def add_something(world: World) -> None:
    await add_adapter(world, f"late-{next(world.numbers)}")


# ---- those who ask ------------------------------------------------------------------------


def zipf_choice(world: World) -> str:
    """The name of rank r is asked for 1/r as often as the first."""
    weights = [1 / rank for rank in range(1, len(world.names) + 1)]
    return world.random.choices(world.names, weights)[0]


def some_reference(world: World) -> tuple[str, str, str | None, int]:
    """(text, name, alias or None, version or 0)."""
    name = zipf_choice(world)
    known = world.known[name]
    if world.random.random() < 0.2:
        number = world.random.choice(list(known.versions))
        return f"{name}:{number}", name, None, number
    alias = world.random.choice(ALIASES)
    text = name if alias == "default" else f"{name}@{alias}"
    return text, name, alias, 0


async def ask_something(world: World) -> None:
    text, name, alias, number = some_reference(world)
    word, streamed = world.random.choice(WORDS), world.random.random() < 0.5
    body = {
        "model": text,
        "prompt": prompt_for(word),
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": streamed,
    }
    begin = time.monotonic()
    async with world.http.stream("POST", "/v1/completions", json=body) as response:
        end = time.monotonic()  # it was resolved by now
        content = (await response.aread()).decode()
    if response.status_code == 200:
        if (code := _cut_off(content) if streamed else None) is not None:
            world.cut_off(text, code)
            return
        version = int(response.headers["x-adaptry-version"].partition(":")[2])
        said = _streamed(content) if streamed else json.loads(content)["choices"][0]["text"]
        answer = Answer(name, alias, version, begin, end, word, said)
        world.done[f"answered {response.headers['x-adaptry-cache']}"] += 1
    elif number and (response.status_code, _code(content)) in GONE:
        answer = Answer(name, None, number, begin, end, word, "", retired=True)
        world.done["refused as retired"] += 1
    elif response.status_code == 404 and content.startswith(WITHOUT_ROUTES):
        raise httpx.RemoteProtocolError("Ray's proxy has begun, and knows no routes yet")
    elif world.may_refuse(response.status_code, code := _code(content)):
        world.done[f"refused {code}"] += 1
        if "retry-after" not in response.headers:
            world.complain(f"{text}: {code} does not say when to come again")
        await asyncio.sleep(0.05)
        return
    else:
        world.complain(f"{text}: {response.status_code} {content[:300]}")
        return
    if (error := judge(world.known[name], answer)) is not None:
        world.complain(error)


def _chunks(content: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in content.splitlines() if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def _streamed(content: str) -> str:
    chunks = _chunks(content)
    return "".join(chunk["choices"][0]["text"] for chunk in chunks if "choices" in chunk)


def _cut_off(content: str) -> str | None:
    """The code of the error that ended a stream, if one did."""
    errors = [chunk["error"] for chunk in _chunks(content) if "error" in chunk]
    return str(errors[0]["code"]) if errors else None


def _code(content: str) -> str:
    """Of a refusal, OpenAI's shape or ours."""
    try:
        body = json.loads(content)
        return str(body["error"]["code"] if "error" in body else body["code"])
    except (ValueError, KeyError, TypeError):
        return ""


# ---- together -----------------------------------------------------------------------------

OPERATORS = (
    (promote_something, 0.5),
    (retire_something, 1.0),
    (steer_something, 0.25),
    (add_something, 5.0),
)


async def work(
    world: World,
    clients: int,
    operators: Sequence[tuple[Any, float]] = OPERATORS,
    pause_seconds: float = 0.0,
) -> None:
    """Until `world.over`. `operators`: what they do, and seconds between.

    `pause_seconds`: of a client between two requests.
    """
    asking = [world.again(ask_something, pause_seconds) for _ in range(clients)]
    changing = [world.again(action, seconds) for action, seconds in operators]
    async with asyncio.TaskGroup() as tasks:
        for endless in (*asking, *changing):
            tasks.create_task(endless)


async def fill(world: World, adapters: Sequence[str]) -> None:
    """Register them all, some side by side."""
    limit = asyncio.Semaphore(4)

    async def one(name: str) -> None:
        async with limit:
            await add_adapter(world, name)

    await asyncio.gather(*map(one, adapters))
