"""Startup benchmark: the base model alone, with adapters, and a merged fine-tune of its size.

    python -m benchmarks.startup --shape llama-1b
    python -m benchmarks.startup --shape llama-8b        (on an H100)

Each start is a separate process; the cases alternate. All files are in the page cache.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, Shape, write_adapter
from benchmarks.startup.models import write_merged_model, write_weights

ADAPTERS = 8
RANK = 16
PHASES = {
    "imports": "Python and its imports",
    "base weights": "weights of the model",
    "engine": "the rest of the engine's start",
    "first answer": "first answer of the model",
    "adapter weights": "adapters: read the files",
    "conversion": "adapters: convert and pack",
    "activation": "adapters: host memory → slot",
    "answers": "adapters: register and answer once each",
    "total": "total",
}
_WEIGHTS = re.compile(r"Loading weights took ([0-9.]+) seconds")

Seconds = dict[str, float]


def start(model: Path, adapters: list[Path], dtype: str) -> Seconds:
    """Seconds by phase. Raises RuntimeError with its output if it fails."""
    command = [sys.executable, "-m", "benchmarks.startup.case", str(model), *map(str, adapters)]
    command += ["--dtype", dtype]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    seconds: Seconds = json.loads(done.stdout.splitlines()[-1])
    said = _WEIGHTS.search(done.stdout + done.stderr)
    if said is None:
        raise RuntimeError("vLLM did not say how long the weights took")
    return _split(seconds | {"base weights": float(said[1])})


def _split(seconds: Seconds) -> Seconds:
    """The phases, which add up to the total."""
    seconds["engine"] -= seconds["base weights"]
    moved = sum(
        seconds.get(phase, 0.0) for phase in ("adapter weights", "conversion", "activation")
    )
    seconds["answers"] = seconds.pop("adapters") - moved
    return seconds


def cases(folder: Path, shape: Shape) -> dict[str, tuple[Path, list[Path]]]:
    """A model and its adapters."""
    base = write_weights(folder, shape, seed=0)
    adapters = [
        write_adapter(folder / "adapters", f"a{n}", shape, rank=RANK, seed=n)
        for n in range(ADAPTERS)
    ]
    return {
        "base alone": (base, []),
        "base + 1": (base, adapters[:1]),
        f"base + {ADAPTERS}": (base, adapters),
        "merged": (write_merged_model(folder, base, adapters[0]), []),
    }


def measure(folder: Path, shape: Shape, rounds: int) -> dict[str, list[Seconds]]:
    chosen = cases(folder, shape)
    found: dict[str, list[Seconds]] = {name: [] for name in chosen}
    for turn in range(rounds + 1):  # the first fills the page cache, and counts for nothing
        for name, (model, adapters) in chosen.items():
            seconds = start(model, adapters, shape.dtype)
            print(f"# {name}: {seconds['total']:.1f} s", flush=True)
            if turn:
                found[name].append(seconds)
    return found


def report(found: dict[str, list[Seconds]]) -> None:
    """Medians by phase, and each total over that of the base model alone."""
    medians = {
        name: {phase: statistics.median(run.get(phase, 0.0) for run in runs) for phase in PHASES}
        for name, runs in found.items()
    }
    rows = [
        {"seconds": text} | {name: f"{of[phase]:.2f}" for name, of in medians.items()}
        for phase, text in PHASES.items()
    ]
    alone = medians["base alone"]["total"]
    ratios = {name: f"{of['total'] / alone:.2f}" for name, of in medians.items()}
    print_table([*rows, {"seconds": "total ÷ base alone"} | ratios])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="llama-1b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="create models and adapters here, and keep them")
    parser.add_argument("--json", type=Path, help="also write every start here")
    arguments = parser.parse_args()
    stay_offline()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.work or Path(folder), SHAPES[arguments.shape], arguments.rounds)
    print(machine())
    report(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
