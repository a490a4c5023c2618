"""Serving benchmark: Adaptry against stock `vllm serve`, both running, alternating A-B-B-A.

    python -m benchmarks.serving --machine cpu
    python -m benchmarks.serving --machine h200
    python -m benchmarks.serving --machine h200-mixed --scenarios stall cold goodput

Same vLLM, model, adapters, slots and host capacity on both sides. Every adapter was loaded on
stock through its own /v1/load_lora_adapter; stock reloads evicted ones when they are requested.
"""

import argparse
import asyncio
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.common.client import client
from benchmarks.common.environment import stay_offline
from benchmarks.common.servers import Limits, Side, both
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model
from benchmarks.serving.machines import MACHINES, Machine
from benchmarks.serving.plan import Plan
from benchmarks.serving.same_weights import check_same_weights
from benchmarks.serving.scenarios import OURS_ONLY, REPEATED, SCENARIOS, Figures
from benchmarks.serving.targets import Blocks, judge, median


def prepare(folder: Path, chosen: Machine) -> tuple[Path, Path]:
    """(base model, folder of adapters). Files of an earlier run are reused."""
    shape = SHAPES[chosen.shape]
    adapters = folder / "adapters"
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda n: write_adapter(
                    adapters,
                    f"a{n:03d}",
                    shape,
                    rank=chosen.ranks[n % len(chosen.ranks)],
                    seed=n,
                ),
                range(chosen.adapters),
            )
        )
    return write_base_model(folder, shape), adapters


def _plan(chosen: Machine, seconds: float, side: Side) -> Plan:
    return Plan(
        process=side.process.pid,
        stages=side.stages if side.stages.exists() else None,
        slots=chosen.slots,
        host_capacity=chosen.host_capacity,
        adapters=[f"a{n:03d}" for n in range(chosen.adapters)],
        weights=side.weights,
        streams=chosen.streams,
        hot_streams=chosen.hot_streams,
        hot_tokens=chosen.hot_tokens,
        tokens_per_stream=chosen.tokens_per_stream,
        seconds=seconds,
        loads_per_second=chosen.loads_per_second,
        zipf_requests_per_second=chosen.zipf_requests_per_second,
        zipf_limits=chosen.zipf_limits,
        zipf_tokens=chosen.zipf_tokens,
        cycles=chosen.cycles,
        prompt_lengths=chosen.prompt_lengths,
    )


async def _check(stock: Side, ours: Side, plan: Plan) -> None:
    async with client(stock.base_url) as asking_stock, client(ours.base_url) as asking_ours:
        await check_same_weights(asking_stock, asking_ours, plan.adapters)


async def measure(
    stock: Side, ours: Side, chosen: Machine, arguments: argparse.Namespace
) -> Blocks:
    blocks: Blocks = {}
    plans = {side.name: _plan(chosen, arguments.seconds, side) for side in (stock, ours)}
    checked = False
    for name in sorted(arguments.scenarios, key=list(SCENARIOS).index):
        if not checked and name != "herd":  # whose loads are the first ones
            await _check(stock, ours, plans["ours"])
            checked = True
        blocks[name] = {"stock": [], "ours": []}
        rounds = arguments.rounds * REPEATED.get(name, 1)
        turns = [ours] if name in OURS_ONLY else [stock, ours, ours, stock] * rounds
        for side in turns:
            async with client(side.base_url, chosen.prompt_tokens) as asking:
                figures = await SCENARIOS[name](asking, plans[side.name])
            blocks[name][side.name].append(figures)
            print(f"# {name} {side.name}: {_short(figures)}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(blocks, indent=1))
    return blocks


def _short(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())


def report(blocks: Blocks) -> None:
    """Medians of the blocks, and ours over stock."""
    rows = []
    for scenario, sides in blocks.items():
        for figure in dict.fromkeys(figure for block in sides["ours"] for figure in block):
            ours, stock = median(sides["ours"], figure), median(sides["stock"], figure)
            rows.append(
                {
                    "scenario": scenario,
                    "figure": figure,
                    "stock": "–" if stock is None else f"{stock:.4g}",
                    "ours": "–" if ours is None else f"{ours:.4g}",
                    "ours ÷ stock": f"{ours / stock:.3f}" if ours and stock else "–",
                }
            )
    print_table(rows)
    print()
    print_table(judge(blocks, on_gpu=torch.cuda.is_available()))


async def run(arguments: argparse.Namespace) -> Blocks:
    chosen = MACHINES[arguments.machine]
    if arguments.no_prefix_caching:
        chosen = replace(chosen, prefix_caching=False)
    if arguments.prompt_tokens:
        chosen = replace(chosen, prompt_tokens=arguments.prompt_tokens)
    limits = Limits(
        chosen.slots,
        chosen.host_capacity,
        chosen.max_rank,
        chosen.arguments,
        prefix_caching=chosen.prefix_caching,
    )
    with tempfile.TemporaryDirectory() as folder:
        base, adapters = prepare(arguments.work or Path(folder), chosen)
        logs = arguments.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        state = Path(folder) / "state"
        state.mkdir()
        servers = both(base, adapters, limits, logs, state, timed=arguments.stages)
        async with servers as (stock, ours):
            return await measure(stock, ours, chosen, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measured phase")
    parser.add_argument("--rounds", type=int, default=2, help="of A-B-B-A")
    parser.add_argument("--no-prefix-caching", action="store_true")
    parser.add_argument("--prompt-tokens", type=int, help="in place of the machine's")
    parser.add_argument("--stages", action="store_true", help="with timers around both engines")
    parser.add_argument("--work", type=Path, help="make model and adapters here, and keep them")
    parser.add_argument("--logs", type=Path, help="keep the servers' logs here")
    parser.add_argument("--json", type=Path, help="also write every block here")
    arguments = parser.parse_args()
    stay_offline()
    blocks = asyncio.run(run(arguments))
    print(machine())
    report(blocks)


if __name__ == "__main__":
    main()
