"""Classification heads that were trained whole: PEFT saves one in every adapter of a classifier.

The rules are those of vLLM 0.32: one head, of the engine's width and at most as many labels as have
room in a slot, and named in `modules_to_save`.
"""

from collections.abc import Iterator, Mapping

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.safetensors_header import TensorInfo
from registry.inspection.supported_modules import ClassificationHead
from registry.inspection.tensor_reader import DTYPES
from registry.inspection.tensors import AdapterTensors, head_tensor, is_matrix, quote_name

Parts = Mapping[str, TensorInfo]


def head_problems(
    tensors: AdapterTensors, saved_modules: tuple[str, ...], base: BaseModel
) -> Iterator[InvalidAdapter]:
    """`saved_modules`: the configuration's `modules_to_save`. Raises EngineAway."""
    if len(tensors.heads) > 1:
        names = ", ".join(quote_name(name) for name in sorted(tensors.heads)[:2])
        yield _unsupported(f"an adapter may have one classification head, not {names}")
        return
    for module, parts in tensors.heads.items():
        if module.rpartition(".")[2] not in saved_modules:
            yield InvalidAdapter(
                Defect.UNKNOWN_TENSOR,
                f"{quote_name(module)} is a whole module, and modules_to_save does not name it",
            )
        elif "weight" not in parts:
            yield InvalidAdapter(Defect.UNPAIRED_TENSOR, f"{quote_name(module)} has no weight")
        elif (head := _served_head(module, base)) is None:
            yield _unsupported(_refusal(module, base))
        else:
            yield from _part_problems(module, parts, head, base.name)


def _served_head(module: str, base: BaseModel) -> ClassificationHead | None:
    if base.served is None or base.served.head is None:
        return None
    places = base.served.places([head_tensor(module)])
    return base.served.head if base.served.head.name in places.values() else None


def _refusal(module: str, base: BaseModel) -> str:
    if base.served is None:
        return f"{quote_name(module)}: no engine was asked whether it serves classification heads"
    if base.served.head is None:
        return f"{quote_name(module)}: this engine serves no classification head"
    return f"{quote_name(module)} is not this engine's head, {quote_name(base.served.head.name)}"


def _part_problems(
    module: str, parts: Parts, head: ClassificationHead, base: str
) -> Iterator[InvalidAdapter]:
    for part, tensor in parts.items():
        if tensor.dtype not in DTYPES:
            detail = f"{quote_name(module)}.{part} is {tensor.dtype}"
            yield InvalidAdapter(Defect.DTYPE_UNSUPPORTED, detail)
    weight, bias = parts["weight"], parts.get("bias")
    wanted = f"{base} has at most ({head.most_labels}, {head.width}) (labels, in)"
    if not is_matrix(weight) or weight.shape[1] != head.width:
        detail = f"{quote_name(module)} is made for {weight.shape}, {wanted}"
        yield InvalidAdapter(Defect.SHAPE_MISMATCH, detail)
    elif weight.shape[0] > head.most_labels:
        detail = f"{quote_name(module)} has {weight.shape[0]} labels, {wanted}"
        yield InvalidAdapter(Defect.SHAPE_MISMATCH, detail)
    elif bias is not None and tuple(bias.shape) != weight.shape[:1]:
        detail = f"{quote_name(module)} has a bias of {bias.shape} for {weight.shape[0]} labels"
        yield InvalidAdapter(Defect.SHAPE_MISMATCH, detail)


def _unsupported(detail: str) -> InvalidAdapter:
    return InvalidAdapter(Defect.MODULES_TO_SAVE_UNSUPPORTED, detail)
