"""Modes of an engine: in each, every adapter answers rightly through eviction and reload.

`--engine-on cuda` runs all of them; `--engine-on cpu` those that the CPU build has.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from demo.tasks import ACTIVATED, HELD_OUT_WORDS, TASKS, prompt_for
from tests.support.servers.adaptry_serve import ROOT, ServedDemo

# FlashAttention 3 for float16 is not in every build of vLLM
FLOAT16 = ("--attention-backend", "TRITON_ATTN")
SLOTS, PLACES = 2, 4  # for six adapters
ROUNDS, WORDS = 3, HELD_OUT_WORDS[:4]
STREAMS = 4
PATIENCE_SECONDS = 300
SPECULATION = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}


@dataclass(frozen=True)
class Mode:
    """Arguments of `adaptry serve`. `needs`: the device without which vLLM doesn't have it."""

    arguments: tuple[str, ...]
    needs: str = ""
    dtype: str = "bfloat16"
    max_rank: int = 16
    gpus: int = 1


EAGER = ("--enforce-eager",)
MODES = {
    "eager": Mode(EAGER),
    "cuda-graphs": Mode((), needs="cuda"),
    "cuda-graphs-float16": Mode(FLOAT16, needs="cuda", dtype="float16"),
    "eager-float16": Mode((*EAGER, *FLOAT16), needs="cuda", dtype="float16"),
    "ranks-below-the-slots": Mode(EAGER, max_rank=128),
    "cuda-graphs-ranks-below-the-slots": Mode((), needs="cuda", max_rank=128),
    "async-scheduling": Mode((*EAGER, "--async-scheduling")),
    "no-async-scheduling": Mode((*EAGER, "--no-async-scheduling")),
    "speculation": Mode((*EAGER, "--speculative-config", json.dumps(SPECULATION))),
    "cuda-graphs-speculation": Mode(
        ("--speculative-config", json.dumps(SPECULATION)), needs="cuda"
    ),
    "chunked-prefill": Mode(
        (
            *EAGER,
            "--enable-prefix-caching",
            "--enable-chunked-prefill",
            "--max-num-batched-tokens=32",
        )
    ),
    "no-prefix-caching": Mode((*EAGER, "--no-enable-prefix-caching")),
    "fully-sharded": Mode((*EAGER, "--fully-sharded-loras")),
    "tensor-parallel": Mode((*EAGER, "--tensor-parallel-size", "2"), gpus=2),
    "tensor-parallel-fully-sharded": Mode(
        (*EAGER, "--tensor-parallel-size", "2", "--fully-sharded-loras"), gpus=2
    ),
}


class Served(ServedDemo):
    """The demo's model in one mode, in a process of its own."""

    forks = False  # CUDA can't be used in a process that was forked

    def __init__(self, folder: Path, mode: Mode, *more: str) -> None:
        super().__init__(folder)
        self._mode = mode
        self.client.timeout = PATIENCE_SECONDS
        self.variables = {
            "VLLM_SERVER_DEV_MODE": "1",  # the routes of sleep
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # two ranks on one NUMA node
        }
        self.arguments = (*mode.arguments, *more)

    def command(self, port: int) -> list[str]:
        command = super().command(port)
        at = command.index("--profile")
        command[at : at + 4] = [
            *("--dtype", self._mode.dtype, "--served-model-name", "tiny-text-tools"),
            *("--max-loras", str(SLOTS), "--max-cpu-loras", str(PLACES)),
            *("--max-lora-rank", str(self._mode.max_rank), "--max-model-len", "256"),
            *("--max-num-seqs", "16", "--kv-cache-memory-bytes", str(64 * 2**20)),
            *("--gpu-memory-utilization", "0.1"),  # several of these tests can run side by side
        ]
        return command


WITH_ACTIVATED = ("eager", "cuda-graphs", "cuda-graphs-speculation", "chunked-prefill")


@pytest.fixture(scope="module")
def device(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("--engine-on"))


def gpus(device: str) -> int:
    import torch

    return torch.cuda.device_count() if device == "cuda" else 2  # processes


@contextmanager
def served(folder: Path, mode: Mode, *more: str) -> Iterator[Served]:
    server = Served(folder, mode, *more)
    try:
        server.start()
        for name in TASKS:
            server.register(name)
        yield server
    finally:
        server.stop()
        server.client.close()


@contextmanager
def streams(server: Served) -> Iterator[None]:
    """Of the base model and of adapters, one after the other, until the block ends."""
    stop = threading.Event()
    names = ["tiny-text-tools", *TASKS]

    def run(number: int) -> int:
        done = 0
        with httpx.Client(base_url=server.url(), timeout=PATIENCE_SECONDS) as client:
            while not stop.is_set():
                body = {
                    "model": names[(number + done) % len(names)],
                    "prompt": prompt_for("hello"),
                    "max_tokens": 150,
                    "ignore_eos": True,
                    "stream": True,
                }
                client.post("/v1/completions", json=body).raise_for_status()
                done += 1
        return done

    with ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(run, number) for number in range(STREAMS)]
        try:
            yield
        finally:
            stop.set()
        assert all(each.result() > 0 for each in running)


def wrong_answers(server: Served) -> list[tuple[str, str]]:
    """All adapters at once, several times over, so that they evict each other."""
    asked = [(name, word) for _ in range(ROUNDS) for word in WORDS for name in TASKS]
    with ThreadPoolExecutor(8) as pool:
        right = list(pool.map(lambda each: server.answers_right(*each), asked))
    return [each for each, is_right in zip(asked, right, strict=True) if not is_right]


def available(name: str, device: str) -> Mode:
    mode = MODES[name]
    if mode.needs not in ("", device) or mode.gpus > gpus(device):
        pytest.skip(f"needs {mode.needs or mode.gpus}")
    return mode


@pytest.mark.parametrize("name", MODES)
def test_every_adapter_answers_rightly_while_streams_run(
    name: str, device: str, tmp_path: Path
) -> None:
    mode = available(name, device)
    with served(tmp_path, mode) as server:
        with streams(server):
            assert wrong_answers(server) == []
        assert server.total("adaptry_cache_evictions_total", tier="gpu") > len(TASKS)
        assert server.total("adaptry_cache_evictions_total", tier="host") > 0


@pytest.mark.parametrize("name", WITH_ACTIVATED)
def test_an_activated_adapter_answers_rightly_among_others(
    name: str, device: str, tmp_path: Path
) -> None:
    """Before its invocation it has no effect, whatever else is in the batch."""
    with served(tmp_path, available(name, device)) as server:
        folder = ROOT / "demo" / "adapters-activated" / ACTIVATED.name
        body = {"source": str(folder)}
        added = server.client.post(f"/api/v1/adapters/{ACTIVATED.name}/versions", json=body)
        assert added.is_success, added.text
        with streams(server), ThreadPoolExecutor(1) as pool:
            others = pool.submit(wrong_answers, server)
            wrong = [word for word in HELD_OUT_WORDS if not is_judged_rightly(server, word)]
            assert (wrong, others.result()) == ([], [])
        assert server.total("adaptry_cache_evictions_total", tier="gpu") > len(TASKS)


def is_judged_rightly(server: Served, word: str) -> bool:
    prompt = ACTIVATED.prompt(word)
    response = server.complete(ACTIVATED.name, prompt=prompt).raise_for_status()
    assert response.headers["x-adaptry-invocation"] == "found"
    return bool(response.json()["choices"][0]["text"] == ACTIVATED.answer(word))


def test_sleep_gives_memory_back_and_every_adapter_answers_rightly_after_it(
    device: str, tmp_path: Path
) -> None:
    if device != "cuda":
        pytest.skip("the CPU build's sleep frees nothing")
    with served(tmp_path, MODES["cuda-graphs"], "--enable-sleep-mode") as server:
        for _ in range(2):
            assert wrong_answers(server) == []
            awake = used_megabytes(server)
            server.client.post("/sleep", params={"level": 1}).raise_for_status()
            assert not server.residents("gpu") | server.residents("host")
            assert used_megabytes(server) < awake - 48, "of 64 MiB of KV cache"
            server.client.post("/wake_up").raise_for_status()
        assert wrong_answers(server) == []


def used_megabytes(server: Served) -> float:
    """Memory of the device that its processes use; others may use it too."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    said = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    family = {process.pid for process in server.process.children(recursive=True)}
    rows = [line.split(",") for line in said.splitlines() if line]
    return sum(float(used) for pid, used in rows if int(pid) in family)
