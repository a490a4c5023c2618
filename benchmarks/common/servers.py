"""Servers to compare: stock vLLM and Adaptry with the same model and limits, on separate ports."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import torch

from adaptry.client import Client
from benchmarks.common.client import client

START_SECONDS = 420.0
WEIGHTS = "adapter_model.safetensors"
STAGES_VARIABLE = "BENCHMARK_STAGES"  # names the file that a server's timers write to
DYNAMIC_LOADING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


@dataclass(frozen=True)
class Limits:
    """The arguments that both servers are started with."""

    slots: int
    host_capacity: int
    max_rank: int
    arguments: tuple[str, ...] = ()
    prefix_caching: bool = False  # vLLM's own default is on

    def as_arguments(self) -> list[str]:
        return [
            f"--max-loras={self.slots}",
            f"--max-cpu-loras={self.host_capacity}",
            f"--max-lora-rank={self.max_rank}",
            "--load-format=dummy",
            "--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching",
            *self.arguments,
        ]


@dataclass(frozen=True)
class Side:
    """One running server. `weights`: by adapter, the file that it reads."""

    name: str
    base_url: str
    process: subprocess.Popen[bytes]
    log: Path
    stages: Path  # what its timers say, if it has them
    started: float = field(default_factory=time.monotonic)
    weights: dict[str, Path] = field(default_factory=dict)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@asynccontextmanager
async def both(
    base: Path, adapters: Path, limits: Limits, logs: Path, state: Path, *, timed: bool = False
) -> AsyncIterator[tuple[Side, Side]]:
    """(stock, ours), started together and both able to serve every folder in `adapters`."""
    timers = ["benchmarks.serving.stages"] if timed else []
    stock_command = [*timers, *_stock(base, limits)]
    our_command = [*timers, *_ours(base, adapters, limits, state)]
    async with AsyncExitStack() as stack:
        stock = stack.enter_context(running("stock", stock_command, DYNAMIC_LOADING, logs))
        ours = stack.enter_context(running("ours", our_command, {}, logs))
        await asyncio.gather(ready(stock), ready(ours))
        folders = sorted(adapters.iterdir())
        await asyncio.gather(register(stock, folders), register(ours, folders, state))
        yield stock, ours


@asynccontextmanager
async def ours_alone(
    base: Path, adapters: Path, limits: Limits, logs: Path, state: Path
) -> AsyncIterator[Side]:
    """One of ours, with every folder in `adapters` registered."""
    with running("ours", _ours(base, adapters, limits, state), {}, logs) as side:
        await ready(side)
        await register(side, sorted(adapters.iterdir()))
        yield side


@asynccontextmanager
async def stock_alone(
    base: Path, adapters: Path, limits: Limits, logs: Path
) -> AsyncIterator[Side]:
    """One of stock, able to serve every folder in `adapters`."""
    with running("stock", _stock(base, limits), DYNAMIC_LOADING, logs) as side:
        await ready(side)
        await register(side, sorted(adapters.iterdir()))
        yield side


@asynccontextmanager
async def fleet(
    replicas: int, base: Path, adapters: Path, limits: Limits, folder: Path
) -> AsyncIterator[list[Side]]:
    """Several of ours, each with its own registry in which every folder is registered.

    Each has a GPU of its own, where there are enough.
    """
    enough = torch.cuda.device_count() >= replicas
    async with AsyncExitStack() as stack:
        sides = []
        for number in range(replicas):
            state = folder / f"state-{number}"
            state.mkdir()
            command = _ours(base, adapters, limits, state)
            device = {"CUDA_VISIBLE_DEVICES": str(number)} if enough else {}
            begun = running(f"replica-{number}", command, device, folder)
            sides.append(stack.enter_context(begun))
        await asyncio.gather(*map(ready, sides))
        folders = sorted(adapters.iterdir())
        registering = (asyncio.to_thread(_register_on_ours, side, folders) for side in sides)
        await asyncio.gather(*registering)
        yield sides


@asynccontextmanager
async def replicas_of_ray(
    replicas: int, base: Path, adapters: Path, limits: Limits, folder: Path
) -> AsyncIterator[Side]:
    """`adaptry serve --replicas`, with every folder registered. Raises RuntimeError."""
    state = folder / "state"
    state.mkdir()
    command = [*_ours(base, adapters, limits, state), f"--replicas={replicas}"]
    with running("replicas", command, {}, folder) as side:
        await ready(side)
        await _whole(side, replicas)
        await asyncio.to_thread(_register_on_ours, side, sorted(adapters.iterdir()))
        yield side


async def _whole(side: Side, replicas: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with client(side.base_url) as asking:
        while len(await asking.replicas()) < replicas:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not all replicas started: {side.last_words()}")
            await asyncio.sleep(0.5)


def _stock(base: Path, limits: Limits) -> list[str]:
    entrypoint = ["vllm.entrypoints.openai.api_server"]
    named = ["--model", str(base), f"--served-model-name={base.name}", "--enable-lora"]
    return [*entrypoint, *named, *limits.as_arguments()]


def _ours(base: Path, adapters: Path, limits: Limits, state: Path) -> list[str]:
    own = [
        f"--database=sqlite+aiosqlite:///{state}/registry.db",
        f"--store={state}/store",
        f"--source-root={adapters}",
        f"--served-model-name={base.name}",
    ]
    return ["adaptry", "serve", str(base), *own, *limits.as_arguments()]


@contextmanager
def running(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], logs: Path
) -> Iterator[Side]:
    """A Python module with its arguments, `--host` and `--port`; its output goes into `logs`."""
    port = free_port()
    command = [sys.executable, "-m", *arguments, "--host=127.0.0.1", f"--port={port}"]
    log, stages = logs / f"{name}.log", logs / f"{name}.stages"
    whole = {**os.environ, **environment, STAGES_VARIABLE: str(stages)}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=whole)
    try:
        yield Side(name, f"http://127.0.0.1:{port}", process, log, stages)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def ready(side: Side) -> None:
    """Wait until ready. Raises RuntimeError with the end of its log if it dies or is too slow."""
    deadline = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline and side.process.poll() is None:
            try:
                async with session.get(f"{side.base_url}/v1/models") as response:
                    if response.status == 200:
                        seconds = time.monotonic() - side.started
                        print(f"# {side.name}: ready after {seconds:.1f} s", flush=True)
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise RuntimeError(f"{side.name} did not start: {side.last_words()}")


async def register(side: Side, folders: Sequence[Path], state: Path | None = None) -> None:
    """Load each folder under its name. Stock vLLM evicts most of them again immediately.

    `state`: of ours, if its weights are to be known.
    """
    if side.name == "ours":
        digests = await asyncio.to_thread(_register_on_ours, side, folders)
        if state is not None:
            for name, digest in digests.items():
                folder = state / "store" / "adapters" / digest[:2] / digest
                side.weights[name] = folder / WEIGHTS
    else:
        await _register_on_stock(side, folders)
        side.weights.update({folder.name: folder / WEIGHTS for folder in folders})


def _register_on_ours(side: Side, folders: Sequence[Path]) -> dict[str, str]:
    """Digests by name."""
    with Client(side.base_url) as asking:
        return {
            folder.name: asking.versions.register(folder.name, str(folder)).version.digest
            for folder in folders
        }


async def _register_on_stock(side: Side, folders: Sequence[Path]) -> None:
    async with aiohttp.ClientSession() as session:
        for folder in folders:
            body = {"lora_name": folder.name, "lora_path": str(folder)}
            async with session.post(f"{side.base_url}/v1/load_lora_adapter", json=body) as response:
                if response.status != 200:
                    raise RuntimeError(await response.text())
