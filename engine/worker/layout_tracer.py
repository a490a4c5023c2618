"""Layout tracer: learns the slot layout of a kind of adapter from vLLM itself.

vLLM's own packing and activation code runs once for each kind of adapter, on meta tensors that
stand in for the file's. What it would zero, copy and scale is recorded, and replayed for every
later adapter of that kind as a few large operations. The layout is therefore right for anything
vLLM does with its modules, including tensor parallelism. A step that can't be replayed (a
concatenation, say) raises Untraceable, and such adapters take vLLM's own path.
"""

import bisect
import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vllm.lora.lora_model import LoRAModel
from vllm.lora.request import LoRARequest

from engine.worker.read_plan import plan_reads
from engine.worker.safetensors_file import StoredTensor
from engine.worker.slot_layout import Copy, Head, SlotLayout, Source, Target

aten = torch.ops.aten

_RECORDING = threading.Lock()  # vLLM's modules are not made for two threads; reads no file


class Untraceable(Exception):
    """vLLM does something with this kind of adapter that can't be replayed."""


def trace(
    manager: Any, request: LoRARequest, tensors: Mapping[str, StoredTensor], size_bytes: int
) -> SlotLayout:
    """The layout of the adapter at `request.lora_path`, whose file holds `tensors`.

    `manager` is the worker's LoRA manager; it is not changed. Reads the file once, as vLLM does,
    so that vLLM's own checks of names, ranks and configuration run. Raises Untraceable, or
    whatever vLLM raises for an adapter that it rejects.
    """
    image = torch.empty(size_bytes, dtype=torch.uint8, device="meta")
    tiers = manager._adapter_manager
    lora = _load_without_memory(manager, request, tensors, image)
    recorder = _Recorder(image, stacked_tensors(tiers))
    with _RECORDING, recorder:
        tiers._create_merged_loras_inplace(lora)
        for name, module in tiers.modules.items():
            weights = tiers._get_lora_layer_weights(lora, name)
            if weights is None:
                module.reset_lora(0)
            else:
                module.set_lora(0, weights.lora_a, weights.lora_b)
    heads = [recorder.head(name, whole) for name, whole in _whole_modules(lora).items()]
    plan = plan_reads(recorder.copies(), heads, size_bytes)
    return SlotLayout(
        plan.size_bytes, lora.rank, plan.copies, recorder.zeroed, plan.heads, plan.reads
    )


def _whole_modules(lora: Any) -> Mapping[str, Any]:
    """Since vLLM 0.31."""
    return getattr(lora, "modules_to_save", None) or {}


def _load_without_memory(
    manager: Any, request: LoRARequest, tensors: Mapping[str, StoredTensor], image: torch.Tensor
) -> LoRAModel:
    views = {name: stored.view_of(image) for name, stored in tensors.items()}

    class ModelOfViews(LoRAModel):  # type: ignore[misc]  # vLLM is untyped here
        @classmethod
        def from_lora_tensors(
            cls, lora_model_id: int, tensors: dict[str, Any], peft_helper: Any, **options: Any
        ) -> LoRAModel:
            if tensors.keys() != views.keys():
                raise Untraceable("vLLM takes only a part of the file")
            options.update(device="meta", dtype=None)
            return super().from_lora_tensors(lora_model_id, views, peft_helper, **options)

    shadow = copy.copy(manager)
    shadow._lora_model_cls = ModelOfViews
    return shadow._load_adapter(request)


def stacked_tensors(tiers: Any) -> list[torch.Tensor]:
    """The stacked tensors of all layers, each with one row per slot."""
    found: list[torch.Tensor] = []
    for module in tiers.modules.values():
        for name in ("lora_a_stacked", "lora_b_stacked"):
            stacked = getattr(module, name, ())
            found.extend([stacked] if isinstance(stacked, torch.Tensor) else stacked)
    return [tensor for tensor in found if tensor.shape[0] == len(tiers.lora_index_to_id)]


class _Recorder(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Executes views, records zeroing, copying and scaling, and rejects everything else."""

    def __init__(self, image: torch.Tensor, stacked: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.zeroed: list[Target] = []
        self._copies: list[tuple[Source, Target]] = []
        self._scales: list[tuple[int, int, float]] = []  # bytes from, to
        self._image = image.untyped_storage()._cdata
        self._stacked = {tensor.untyped_storage()._cdata: tensor for tensor in stacked}
        self._records: dict[Any, Callable[..., torch.Tensor]] = {
            aten.fill_: self._fill,
            aten.zero_: self._zero,
            aten.copy_: self._copy,
            aten.mul_: self._scale,
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        record = self._records.get(func._overloadpacket)
        if record is not None:
            return record(*args)
        if func.is_view:
            return func(*args, **(kwargs or {}))
        raise Untraceable(str(func))

    def _fill(self, target: torch.Tensor, value: Any) -> torch.Tensor:
        if value != 0:
            raise Untraceable(f"filling with {value}")
        return self._zero(target)

    def _zero(self, target: torch.Tensor) -> torch.Tensor:
        self.zeroed.append(self._target(target))
        return target

    def _copy(self, target: torch.Tensor, source: torch.Tensor, *_: Any) -> torch.Tensor:
        if target.shape != source.shape:
            raise Untraceable("a copy that repeats its source")
        self._copies.append((self._source(source), self._target(target)))
        return target

    def _scale(self, source: torch.Tensor, factor: Any) -> torch.Tensor:
        of = self._source(source)
        start = of.offset * of.dtype.itemsize
        if not source.is_contiguous() or isinstance(factor, torch.Tensor):
            raise Untraceable("scaling a part of a tensor")
        self._scales.append((start, start + source.numel() * of.dtype.itemsize, float(factor)))
        return source

    def _source(self, tensor: torch.Tensor) -> Source:
        if tensor.untyped_storage()._cdata != self._image:
            raise Untraceable("a tensor that is not in the file")
        return Source(
            tensor.dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        )

    def _target(self, tensor: torch.Tensor) -> Target:
        stacked = self._stacked.get(tensor.untyped_storage()._cdata)
        if stacked is None:
            raise Untraceable("a target that is in no slot")
        return Target(stacked, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))

    def head(self, name: str, whole: Any) -> Head:
        """`whole`: vLLM's `LoRAFullModuleWeights`."""
        bias = None if whole.bias is None else self._source(whole.bias)
        return Head(name, self._source(whole.weight), bias)

    def copies(self) -> list[Copy]:
        """Each copy with the factors that scaled its source, in order."""
        if not self._copies:
            raise Untraceable("nothing would be copied")
        starts = sorted(self._scales)
        return [
            Copy(source, target, tuple(self._factors(source, starts)))
            for source, target in self._copies
        ]

    def _factors(self, source: Source, scales: Sequence[tuple[int, int, float]]) -> Iterator[float]:
        at = source.offset * source.dtype.itemsize
        last = bisect.bisect_right(scales, at, key=lambda scale: scale[0])
        for start, end, factor in scales[:last]:
            if start <= at < end:
                yield factor
