"""Machines of the sizing benchmark: settings, and loads of which some requests wait."""

from dataclasses import dataclass

from adaptry.sizing.prediction import Setting


@dataclass(frozen=True, slots=True)
class Machine:
    """`recorded`: the setting that is calibrated. `requests`: of both halves, `rate`: a second.

    `together`: the servers of all settings start together, and are asked one after another;
    `stock`: stock vLLM is asked too.
    """

    shape: str
    recorded: Setting
    never_run: tuple[Setting, ...]
    requests: int
    rate: float
    mean_tokens: int
    together: bool
    stock: bool
    arguments: tuple[str, ...]


MACHINES = {
    "cpu": Machine(
        "small",
        Setting(4, 12),
        (Setting(2, 6), Setting(6, 18)),
        requests=2400,
        rate=10.0,
        mean_tokens=8,
        together=False,
        stock=False,
        arguments=(
            "--enforce-eager",
            "--max-model-len=1024",
            "--max-num-seqs=64",
            "--kv-cache-memory-bytes=134217728",
        ),
    ),
    # five servers on one GPU, in less than 200 s of it
    "h200": Machine(
        "llama-8b",
        Setting(8, 24),
        (Setting(6, 16), Setting(12, 32)),
        requests=500,
        rate=25.0,
        mean_tokens=32,
        together=True,
        stock=True,
        arguments=(
            "--max-model-len=1024",
            "--max-num-seqs=64",
            "--gpu-memory-utilization=0.15",
            "--kv-cache-memory-bytes=2147483648",
            '--compilation-config={"cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 64]}',
        ),
    ),
}
