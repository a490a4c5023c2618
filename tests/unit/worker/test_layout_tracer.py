"""Layout tracer: from a file into a slot as vLLM's own layers would, or left to vLLM."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.lora_model import LoRAModel
from vllm.lora.model_manager import AdapterLRUCache, LoRAModelManager
from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest

from engine.worker.arena import HostArena
from engine.worker.host_image import ImageReader
from engine.worker.layout_tracer import Untraceable, trace
from engine.worker.lora_managers import ControlledModelManager, _read_and_pack, host_bytes
from engine.worker.safetensors_file import CONFIG, WEIGHTS, open_adapter

SLOTS, RANK = 2, 8
GARBAGE = 7.0


class Layer(BaseLinearLayerWithLoRA):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's, without the layer below it; what another adapter left is in its slots."""

    def __init__(self, rows: int, columns: int) -> None:
        torch.nn.Module.__init__(self)
        self.tp_size = self.n_slices = 1
        self.lora_a_stacked = (torch.full((SLOTS, 1, RANK, columns), GARBAGE),)
        self.lora_b_stacked = (torch.full((SLOTS, 1, rows, RANK), GARBAGE),)

    def slot(self, slot: int) -> list[torch.Tensor]:
        return [stacked[slot] for stacked in (*self.lora_a_stacked, *self.lora_b_stacked)]


class Manager:
    """A worker's LoRA manager, whose model has two layers."""

    def __init__(self, first: Layer | None = None) -> None:
        tiers: Any = ControlledModelManager.__new__(ControlledModelManager)
        tiers.modules = {"q": first or Layer(12, 16), "o": Layer(16, 12)}
        tiers.packed_modules, tiers.is_pooling_model = {}, False
        tiers.lora_index_to_id = [None] * SLOTS
        tiers.lora_config = SimpleNamespace(max_loras=SLOTS, max_cpu_loras=9)
        tiers._registered_adapters = AdapterLRUCache(9, tiers.deactivate_adapter)
        tiers._active_adapters = AdapterLRUCache(SLOTS, tiers._deactivate_adapter)
        tiers.device = torch.device("cpu")
        self._adapter_manager, self._lora_model_cls = tiers, LoRAModel
        self.reader = ImageReader(HostArena(pinned=False))

    def _load_adapter(self, request: LoRARequest) -> Any:
        tensors = load_file(Path(request.lora_path, WEIGHTS))
        helper = PEFTHelper.from_local_dir(request.lora_path, None)
        return self._lora_model_cls.from_lora_tensors(
            request.lora_int_id, self.taken(tensors), helper, device="cpu", dtype=torch.float32
        )

    def taken(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors

    def trace(self, request: LoRARequest) -> Any:
        with open_adapter(request.lora_path) as adapter:
            return trace(self, request, adapter.tensors(), adapter.size_bytes)

    def slots(self, slot: int) -> list[torch.Tensor]:
        return [
            each for layer in self._adapter_manager.modules.values() for each in layer.slot(slot)
        ]


SHAPES = {"q": {"A": (4, 16), "B": (12, 4)}, "o": {"A": (4, 12), "B": (16, 4)}}


def adapter(
    folder: Path, number: int = 1, dtype: torch.dtype = torch.float32, layers: str = "q"
) -> LoRARequest:
    """With a scale of 3. In its file the first layer's B, which is scaled, is before another A."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(number)
    tensors = {
        f"base_model.model.{layer}.lora_{name}.weight": torch.randn(shape, generator=generator)
        for layer in layers
        for name, shape in SHAPES[layer].items()
    }
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 12, "target_modules": list(layers)}
    (folder / CONFIG).write_text(json.dumps(config))
    return LoRARequest(f"a{number}", number, str(folder))


@pytest.mark.parametrize("layers", ["q", "qo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_slot_holds_what_vllm_would_put_there(
    tmp_path: Path, dtype: torch.dtype, layers: str
) -> None:
    manager, tiers = (made := Manager()), made._adapter_manager
    request = adapter(tmp_path / "a", dtype=dtype, layers=layers)
    image: Any = manager.reader.read(manager, request)
    assert manager.reader.untraceable == 0
    assert manager._lora_model_cls is LoRAModel, "it is not changed"
    tiers._registered_adapters[1] = image
    assert tiers.activate_adapter(1)
    stock = manager._load_adapter(request)
    tiers._create_merged_loras_inplace(stock)
    stock.id = 2
    tiers._registered_adapters[2] = stock
    assert LoRAModelManager.activate_adapter(tiers, 2)
    assert tiers.lora_index_to_id == [1, 2]
    assert all(map(torch.equal, manager.slots(0), manager.slots(1)))
    assert not any((each == GARBAGE).any() for each in manager.slots(0))


def test_another_file_of_its_kind_is_not_traced_and_takes_the_oldest_slot(tmp_path: Path) -> None:
    """As vLLM does where the decision is its own."""
    manager, tiers = (made := Manager()), made._adapter_manager
    for number in (1, 2, 3):
        request = adapter(tmp_path / str(number), number)
        tiers._registered_adapters[number] = manager.reader.read(manager, request)
    assert len(manager.reader._layouts) == 1
    image = tiers._registered_adapters[3]
    assert host_bytes(image) == image.block.length > image.layout.size_bytes
    for number in (1, 2):
        assert tiers.activate_adapter(number)
    assert not tiers.activate_adapter(1), "it is there, and was used last"
    assert tiers.activate_adapter(3)
    assert tiers.lora_index_to_id == [1, 3]
    assert list(tiers._active_adapters.order) == [1, 3]
    second, third = (load_file(tmp_path / str(n) / WEIGHTS) for n in (2, 3))
    written = manager.slots(1)[0][0, :4]
    assert torch.equal(written, third["base_model.model.q.lora_A.weight"])
    assert not torch.equal(written, second["base_model.model.q.lora_A.weight"])


def test_a_file_that_can_not_be_traced_is_left_to_vllm(tmp_path: Path) -> None:
    manager = Manager(Concatenates(12, 16))
    for number in (1, 2):
        assert manager.reader.read(manager, adapter(tmp_path / str(number), number)) is None
    assert manager.reader.untraceable == 2
    packed: Any = _read_and_pack(cast(Any, manager), adapter(tmp_path / "3", 3))
    values = load_file(tmp_path / "3" / WEIGHTS)["base_model.model.q.lora_B.weight"]
    assert torch.equal(packed.loras["q"].lora_b, values * 3), "scaled, as a slot takes it"


def test_a_read_that_fails_gives_its_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, request = Manager(), adapter(tmp_path / "a")
    assert manager.reader.read(manager, request)

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as sick:
        sick.setattr("engine.worker.safetensors_file.read_ranges", fail)
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output"):
                manager.reader.read(manager, request)
    again = manager.reader.read(manager, request)
    assert again is not None
    assert again.block.start == 0, "neither those nor the first, which was dropped, hold a block"


# ---- what is not replayed -------------------------------------------------------------------


class Concatenates(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        self.lora_a_stacked[0][index, 0].copy_(torch.cat([lora_a, lora_a]))


class Marks(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        super().set_lora(index, lora_a, lora_b)
        self.lora_a_stacked[0][index] = 1


class Repeats(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        self.lora_a_stacked[0][index, 0].copy_(lora_a[0])


class HasItsOwn(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        self.lora_a_stacked[0][index, 0].copy_(self.lora_a_stacked[0][1, 0])


class ScalesAPart(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        lora_b[:, :2].mul_(2)
        super().set_lora(index, lora_a, lora_b)


class ScalesByTensor(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        lora_b.mul_(lora_a[0, 0])
        super().set_lora(index, lora_a, lora_b)


class LeavesOut(Layer):
    def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
        self.reset_lora(index)


class HasOtherSlots(Layer):
    """Such as a stacked tensor for each expert: not one row for each slot."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(rows, columns)
        self.lora_a_stacked = (torch.zeros(SLOTS + 1, 1, RANK, columns),)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (Concatenates, "aten.cat"),
        (Marks, "filling with 1"),
        (Repeats, "repeats its source"),
        (HasItsOwn, "not in the file"),
        (ScalesAPart, "scaling a part"),
        (ScalesByTensor, "scaling a part"),
        (LeavesOut, "nothing would be copied"),
        (HasOtherSlots, "in no slot"),
    ],
)
def test_what_can_not_be_replayed_is_said(
    tmp_path: Path, layer: Callable[[int, int], Layer], why: str
) -> None:
    with pytest.raises(Untraceable, match=why):
        Manager(layer(12, 16)).trace(adapter(tmp_path / "a"))


def test_a_file_of_which_vllm_takes_a_part_is_not_replayed(tmp_path: Path) -> None:
    class TakesAPart(Manager):
        def taken(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: tensor for name, tensor in tensors.items() if "lora_A" in name}

    with pytest.raises(Untraceable, match="only a part of the file"):
        TakesAPart().trace(adapter(tmp_path / "a"))


def test_vllms_layers_are_used_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside, most = threading.Semaphore(1), []

    class Counts(Layer):
        def set_lora(self, index: int, lora_a: torch.Tensor, lora_b: torch.Tensor) -> None:
            most.append(inside.acquire(blocking=False))
            time.sleep(0.02)
            super().set_lora(index, lora_a, lora_b)
            inside.release()

    manager = Manager(Counts(12, 16))
    requests = [adapter(tmp_path / str(n), n) for n in range(1, 5)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(manager.trace, requests))
    assert most == [True] * 4
