"""Slot contents: our copy is, bit for bit, what vLLM's own would be."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "demo" / "base"
MAX_RANK = 16
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

Make = Callable[[Path], None]


def save_with_peft(folder: Path, *, dtype: torch.dtype = torch.float32, **config: Any) -> None:
    """An adapter with weights other than PEFT's initial ones, of which half are zero."""
    base = AutoModelForCausalLM.from_pretrained(BASE)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **config))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            values = torch.randn(parameter.shape, generator=generator)
            parameter.data = values.to(dtype)
    model.save_pretrained(folder)


def with_b_in_half_precision(folder: Path) -> None:
    save_with_peft(folder, r=8, lora_alpha=12, target_modules=ALL_LINEAR)
    weights = folder / "adapter_model.safetensors"
    tensors = {
        name: tensor.half() if "lora_B" in name else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})


KINDS: dict[str, Make] = {
    "all linear, full rank": lambda folder: save_with_peft(
        folder, r=MAX_RANK, lora_alpha=MAX_RANK, target_modules=ALL_LINEAR
    ),
    "all linear, a scale that rounds": lambda folder: save_with_peft(
        folder, r=8, lora_alpha=11, target_modules=ALL_LINEAR
    ),
    "rank-stabilised": lambda folder: save_with_peft(
        folder, r=8, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "down_proj"]
    ),
    "a part of packed modules": lambda folder: save_with_peft(
        folder, r=4, lora_alpha=8, target_modules=["v_proj", "up_proj"]
    ),
    "one layer only": lambda folder: save_with_peft(
        folder, r=4, lora_alpha=8, target_modules=["o_proj"], layers_to_transform=[1]
    ),
    "bfloat16": lambda folder: save_with_peft(
        folder, dtype=torch.bfloat16, r=4, lora_alpha=7, target_modules=ALL_LINEAR
    ),
    "A and B of different dtypes": with_b_in_half_precision,
}


@dataclass
class Probed:
    """An engine whose slots can be looked into."""

    llm: Any
    next_id: int = 0

    def slots(self, probe: str, folder: Path) -> list[list[str]]:
        """One list of digests per rank."""
        self.next_id += 1
        answer: list[list[str]] = self.llm.collective_rpc(probe, args=(self.next_id, str(folder)))
        return answer

    def untraceable(self) -> list[int]:
        answer: list[int] = self.llm.collective_rpc("probe_untraceable")
        return answer


def _engine(ranks: int, dtype: str) -> Any:
    from vllm import LLM

    return LLM(
        model=str(BASE),
        dtype=dtype,
        enable_lora=True,
        max_loras=2,
        max_cpu_loras=4,
        max_lora_rank=MAX_RANK,
        max_model_len=256,
        enforce_eager=True,
        kv_cache_memory_bytes=64 * 2**20,
        tensor_parallel_size=ranks,
        worker_extension_cls="slot_probe.SlotProbe",
    )


@pytest.fixture(
    scope="module",
    params=[pytest.param((1, "bfloat16"), id="one-rank"), pytest.param((2, "float32"), id="TP=2")],
)
def probed(request: pytest.FixtureRequest) -> Iterator[Probed]:
    ranks, dtype = request.param
    with pytest.MonkeyPatch.context() as environment:
        here = str(Path(__file__).parent)
        environment.setenv("PYTHONPATH", f"{here}:{ROOT}")
        environment.syspath_prepend(here)
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        # the probe changes the class of the worker, which later tests may use in this process
        environment.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        engine = _engine(ranks, dtype)
        yield Probed(engine)
        engine.llm_engine.engine_core.shutdown()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp("adapter") for kind in KINDS}
    for kind, make in KINDS.items():
        make(made[kind])
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_holds_what_vllm_would_put_there(
    probed: Probed, folders: dict[str, Path], kind: str
) -> None:
    before = probed.untraceable()
    ours = probed.slots("probe_ours", folders[kind])
    assert ours == probed.slots("probe_stock", folders[kind])
    assert probed.untraceable() == before, "took vLLM's own way"
    assert all(len(set(digests)) > 1 for digests in ours)


def test_each_rank_holds_its_own_part(probed: Probed, folders: dict[str, Path]) -> None:
    by_rank = probed.slots("probe_ours", folders["all linear, full rank"])
    assert len({tuple(digests) for digests in by_rank}) == len(by_rank)


def test_a_rank_reads_only_what_its_slots_hold(probed: Probed, folders: dict[str, Path]) -> None:
    """Of column-parallel modules half of B, of row-parallel ones half of A."""
    folder = folders["all linear, full rank"]
    data = sum(t.nbytes for t in load_file(folder / "adapter_model.safetensors").values())
    sizes = probed.llm.collective_rpc("probe_image_bytes", args=(900, str(folder)))
    for image, read in sizes:
        assert read <= image < read + 4 * len(KINDS) * 100, "but for alignment"
        assert image == data if len(sizes) == 1 else image < 0.8 * data


def test_the_same_kind_is_learnt_once_and_placed_right_for_other_weights(
    probed: Probed, folders: dict[str, Path], tmp_path: Path
) -> None:
    source = folders["all linear, a scale that rounds"]
    other = {
        name: tensor * math.pi
        for name, tensor in load_file(source / "adapter_model.safetensors").items()
    }
    save_file(other, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "adapter_config.json").read_text())
    config["target_modules"].reverse()  # PEFT writes a set in any order
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    ours = probed.slots("probe_ours", tmp_path)
    assert ours == probed.slots("probe_stock", tmp_path)
    assert ours != probed.slots("probe_ours", source)
