"""Activated adapters against plain LoRA of the same weights, on one server and over HTTP.

    OMP_NUM_THREADS=1 python -m benchmarks.activated --machine cpu
    python -m benchmarks.activated --machine h200-8b

For each length of a conversation: the base model's turn, then one adapter's turn over it, eight
adapters' together by eight requests, and the KV memory of these eight. Each is asked of the
activated adapters and of plain ones with the same weights; every measurement has a conversation of
its own. The eight activated ones are asked by one fan-out too, also over a conversation that was
not read before. Then streams of plain adapters and of the base model, which activated ones should
cost nothing.
"""

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.activated.report import KINDS, Figures, report
from benchmarks.activated.turns import INVOCATION, Asker, conversation, question
from benchmarks.common.environment import stay_offline
from benchmarks.common.servers import Limits, ours_alone
from benchmarks.common.tables import machine
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model

JUDGES = 8


@dataclass(frozen=True)
class Machine:
    """`lengths`: tokens of the conversations. `held_tokens`: generated while memory is read."""

    shape: str
    lengths: tuple[int, ...]
    rounds: int
    held_tokens: int
    streams: int
    arguments: tuple[str, ...]


def _gpu() -> tuple[str, ...]:
    return (
        "--max-model-len=40000",
        "--max-num-seqs=64",
        "--gpu-memory-utilization=0.5",
        "--kv-cache-memory-bytes=42949672960",  # ten conversations of 32k on the 8B shape
        '--compilation-config={"cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 64]}',
    )


MACHINES = {
    "cpu": Machine(
        shape="tiny",
        lengths=(256, 768),
        rounds=2,
        held_tokens=24,
        streams=4,
        arguments=(
            "--enforce-eager",
            "--block-size=32",
            "--max-model-len=1024",
            "--max-num-seqs=16",
            "--kv-cache-memory-bytes=134217728",
        ),
    ),
    "h200-8b": Machine("llama-8b", (8192, 32768), 3, 192, 32, _gpu()),
    "h200-1b": Machine("llama-1b", (8192, 32768), 3, 192, 32, _gpu()),
}


class Comparison:
    """All measurements on one server."""

    def __init__(self, asker: Asker, chosen: Machine) -> None:
        self._asker = asker
        self._chosen = chosen
        self._seed = 0
        self.figures: Figures = {}

    async def run(self) -> None:
        await self._warm()
        for length in self._chosen.lengths:
            for _ in range(self._chosen.rounds):
                for kind in KINDS:
                    await self._one_turn(kind, length)
                    await self._eight(kind, length)
                for was_read in (True, False):
                    await self._fan_out(length, was_read=was_read)
            for kind in KINDS:
                await self._memory(kind, length)
        for model in ("base", *KINDS):
            await self._streams(model)

    async def _warm(self) -> None:
        """Every adapter in its slot, and every kernel compiled."""
        for kind in KINDS:
            prompt = [*self._conversation(64), *question(0)]
            await self._asker.together(judges(kind), prompt, 4)
        await self._asker.fan_out(judges(KINDS[0]), self._conversation(64), question(0))
        await self._asker.turn("base", self._conversation(self._chosen.lengths[0]))

    async def _one_turn(self, kind: str, length: int) -> None:
        said = self._conversation(length)
        base = await self._asker.turn("base", said)
        turn = await self._asker.turn(judges(kind)[0], [*said, *question(1)])
        self._note(f"{length}: base turn before, ms", base.first * 1e3)
        self._note(f"{length}: one turn, {kind}, ms", turn.first * 1e3)
        self._note(f"{length}: one turn, {kind}, cached tokens", turn.cached_tokens)

    async def _eight(self, kind: str, length: int) -> None:
        said = self._conversation(length)
        await self._asker.turn("base", said)
        turns = await self._asker.together(judges(kind), [*said, *question(2)])
        latest = max(turn.first for turn in turns)
        self._note(f"{length}: eight judges by eight requests, {kind}, ms", latest * 1e3)

    async def _fan_out(self, length: int, *, was_read: bool) -> None:
        said = self._conversation(length)
        if was_read:
            await self._asker.turn("base", said)
        seconds = await self._asker.fan_out(judges("activated"), said, question(2))
        where = "by fan-out" if was_read else "by fan-out, not read before"
        self._note(f"{length}: eight judges {where}, activated, ms", seconds * 1e3)

    async def _memory(self, kind: str, length: int) -> None:
        """Of one turn and of eight, while they generate."""
        used = []
        for models in (judges(kind)[:1], judges(kind)):
            prompt = [*self._conversation(length), *question(3)]
            await self._asker.turn("base", prompt[:length])
            running = asyncio.create_task(
                self._asker.together(models, prompt, self._chosen.held_tokens)
            )
            most = 0.0
            while not running.done():
                most = max(most, await self._asker.used_blocks())
                await asyncio.sleep(0.05)
            await running
            used.append(most)
        self._note(f"{length}: KV memory of eight turns ÷ of one, {kind}", used[1] / used[0])

    async def _streams(self, model: str) -> None:
        """Tokens per second of short prompts, several streams at once."""
        streams, tokens = self._chosen.streams, 64
        models = ["base"] if model == "base" else judges(model)
        for _ in range(self._chosen.rounds):
            turns = [
                self._asker.turn(models[n % len(models)], [*self._conversation(64), *question(n)])
                for n in range(streams)
            ]
            await asyncio.gather(*turns)  # so that no prompt is computed in the time
            began = asyncio.get_running_loop().time()
            prompt = self._conversation(16)
            asked = [
                self._asker.turn(models[n % len(models)], [*prompt, *question(n)], tokens)
                for n in range(streams)
            ]
            await asyncio.gather(*asked)
            seconds = asyncio.get_running_loop().time() - began
            self._note(f"streams: {model}, tokens/s", streams * tokens / seconds)

    def _conversation(self, tokens: int) -> list[int]:
        self._seed += 1
        return conversation(tokens, self._seed)

    def _note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)
        print(f"# {name}: {value:.4g}", flush=True)


def judges(kind: str) -> list[str]:
    return [f"{kind}-{number}" for number in range(JUDGES)]


def write_adapters(folder: Path, shape: str) -> None:
    """Each weights file once, for two configurations."""
    for number in range(JUDGES):
        plain = write_adapter(folder, f"plain-{number}", SHAPES[shape], rank=16, seed=number)
        activated = folder / f"activated-{number}"
        if activated.is_dir():
            continue
        activated.mkdir()
        os.link(plain / "adapter_model.safetensors", activated / "adapter_model.safetensors")
        config = json.loads((plain / "adapter_config.json").read_text())
        config["alora_invocation_tokens"] = list(INVOCATION)
        (activated / "adapter_config.json").write_text(json.dumps(config))


async def run(asked: argparse.Namespace) -> Figures:
    chosen = MACHINES[asked.machine]
    own = ("--allow-untested-vllm", "--served-model-name=base")
    limits = Limits(2 * JUDGES, 2 * JUDGES, 16, (*chosen.arguments, *own), prefix_caching=True)
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        adapters = work / f"activated-{chosen.shape}"
        write_adapters(adapters, chosen.shape)
        positions = max(8192, 2 * max(chosen.lengths))
        base = write_base_model(work, SHAPES[chosen.shape], positions=positions)
        state, logs = Path(folder) / "state", asked.logs or Path(folder)
        state.mkdir()
        logs.mkdir(parents=True, exist_ok=True)
        async with ours_alone(base, adapters, limits, logs, state) as side:
            timeout = aiohttp.ClientTimeout(total=600)
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(
                connector=connector, timeout=timeout, read_bufsize=2**20
            ) as session:
                comparison = Comparison(Asker(side.base_url, session), chosen)
                await comparison.run()
    return comparison.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--work", type=Path, help="make model and adapters here, and keep them")
    parser.add_argument("--logs", type=Path, help="keep the server's log here")
    parser.add_argument("--json", type=Path, help="also write every measurement here")
    asked = parser.parse_args()
    stay_offline()
    figures = asyncio.run(run(asked))
    print(machine())
    report(figures, MACHINES[asked.machine].lengths)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
