"""Tensors of an adapter, sorted by name: low-rank pairs, and what PEFT saved beside them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.safetensors_header import TensorInfo
from registry.inspection.tensor_names import (
    EMBEDDING,
    LINEAR,
    PREFIX,
    adapter_name_in,
    diffusion_tool,
    wrapper_in,
)

# vLLM 0.32 skips these two (`is_base_embedding_weights`) and no others
_REPEATED = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_WHOLE = (".embed_tokens.weight", ".lm_head.weight")
# PEFT's names of classification heads, which it saves whole; vLLM 0.32 knows them by these too
HEADS = ("score", "classifier")
_HEAD_PARTS = ("weight", "bias")


@dataclass(frozen=True, slots=True)
class Pair:
    """The low-rank pair of one module. Of an embedding, A is (rank, tokens), B (width, rank)."""

    a: TensorInfo
    b: TensorInfo
    is_embedding: bool

    @property
    def rank(self) -> tuple[int, int]:
        """Rank according to A, and to B."""
        return self.a.shape[0], self.b.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features), of an embedding (width, tokens)."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def parameters(self) -> int:
        return math.prod(self.a.shape) + math.prod(self.b.shape)


@dataclass(slots=True)
class AdapterTensors:
    """Tensors by the base model's module name. `problems`: unknown names.

    `heads`: whole classification heads, each by `weight` and `bias`.
    """

    pairs: dict[str, Pair] = field(default_factory=dict)
    heads: dict[str, dict[str, TensorInfo]] = field(default_factory=dict)
    repeated: dict[str, TensorInfo] = field(default_factory=dict)
    problems: list[InvalidAdapter] = field(default_factory=list)


def sort_tensors(tensors: Mapping[str, TensorInfo]) -> AdapterTensors:
    """`tensors` by their names in the file."""
    sorted_ = AdapterTensors()
    halves: dict[tuple[str, bool], dict[str, TensorInfo]] = {}
    for name, tensor in tensors.items():
        place = _place(name)
        if isinstance(place, InvalidAdapter):
            sorted_.problems.append(place)
        elif isinstance(place, str):
            sorted_.repeated[place] = tensor
        elif isinstance(place, _HeadPart):
            sorted_.heads.setdefault(place.module, {})[place.part] = tensor
        else:
            module, half, is_embedding = place
            halves.setdefault((module, is_embedding), {})[half] = tensor
    for (module, is_embedding), found in sorted(halves.items()):
        missing = {"A", "B"} - found.keys()
        if missing:
            detail = f"{quote_name(module)} has no lora_{missing.pop()}"
            sorted_.problems.append(InvalidAdapter(Defect.UNPAIRED_TENSOR, detail))
        elif module in sorted_.pairs:
            detail = f"{quote_name(module)} has two pairs"
            sorted_.problems.append(InvalidAdapter(Defect.DUPLICATE_MODULE, detail))
        else:
            sorted_.pairs[module] = Pair(found["A"], found["B"], is_embedding)
    if not sorted_.pairs and not sorted_.problems:
        detail = "it changes nothing: there is no pair of tensors in it"
        sorted_.problems.append(InvalidAdapter(Defect.NO_MODULES, detail))
    return sorted_


@dataclass(frozen=True, slots=True)
class _HeadPart:
    """`part`: weight or bias."""

    module: str
    part: str


def first_tensor(module: str, pair: Pair) -> str:
    """The name of the pair's A in a file."""
    return PREFIX + module + (".lora_embedding_A" if pair.is_embedding else ".lora_A.weight")


def head_tensor(module: str) -> str:
    """The name of a head's weight in a file."""
    return f"{PREFIX}{module}.weight"


def _place(name: str) -> tuple[str, str, bool] | str | _HeadPart | InvalidAdapter:
    """(module, "A" or "B", is it an embedding's?), or a module whose own weights these are."""
    module = name.removeprefix(PREFIX)
    if (problem := _foreign_name(name)) is not None:
        return problem
    if name.startswith(PREFIX):
        for suffixes in (LINEAR, EMBEDDING):
            for suffix, half in suffixes.items():
                if module.endswith(suffix):
                    return module.removesuffix(suffix), half, suffixes is EMBEDDING
        if name.endswith(_REPEATED):
            return module.removesuffix(".base_layer.weight")
        head, _, part = module.rpartition(".")
        if part in _HEAD_PARTS and head.rpartition(".")[2] in HEADS:
            return _HeadPart(head, part)
        if name.endswith(_WHOLE):
            return InvalidAdapter(
                Defect.EMBEDDING_SAVED,
                f"{quote_name(name)}: whole embeddings are not served; "
                "save with save_embedding_layers=False",
            )
    detail = f"{quote_name(name)} is neither a lora_A nor a lora_B of a module"
    if (adapter := adapter_name_in(name)) is not None:
        detail += f": take the adapter's name, {quote_name(adapter)}, out of it"
    return InvalidAdapter(Defect.UNKNOWN_TENSOR, detail)


def _foreign_name(name: str) -> InvalidAdapter | None:
    """Of another tool's, or of the same tensor in a wrapper."""
    if (wrapper := wrapper_in(name)) is not None:
        detail = f"{quote_name(name)} was saved inside of {wrapper[0]}: {wrapper[1]}"
        return InvalidAdapter(Defect.WRAPPED_NAMES, detail)
    if (tool := diffusion_tool(name)) is not None:
        detail = f"{quote_name(name)}: this is an adapter of a diffusion model, saved by {tool}"
        return InvalidAdapter(Defect.DIFFUSION_ADAPTER, detail)
    return None


def matrix_problems(
    module: str, pair: Pair, dtypes: Mapping[str, str], rank: int | None
) -> Iterator[InvalidAdapter]:
    """Defects of a pair in itself. `rank`: from the configuration, if known."""
    for which, tensor in (("lora_A", pair.a), ("lora_B", pair.b)):
        if tensor.dtype not in dtypes:
            yield InvalidAdapter(
                Defect.DTYPE_UNSUPPORTED, f"{quote_name(module)}.{which} is {tensor.dtype}"
            )
        if 0 in tensor.shape:
            yield InvalidAdapter(
                Defect.EMPTY_TENSOR,
                f"{quote_name(module)}.{which} is empty, as DeepSpeed ZeRO-3 leaves it: "
                "gather the weights before saving",
            )
        elif not is_matrix(tensor):
            yield InvalidAdapter(
                Defect.SHAPE_MISMATCH, f"{quote_name(module)}.{which} is not a matrix"
            )
    if is_matrix(pair.a) and is_matrix(pair.b) and rank is not None and pair.rank != (rank, rank):
        yield InvalidAdapter(
            Defect.RANK_MISMATCH,
            f"{quote_name(module)} has ranks {pair.rank}, the configuration says {rank}",
        )


def is_matrix(tensor: TensorInfo) -> bool:
    return len(tensor.shape) == 2 and 0 not in tensor.shape


def quote_name(name: str) -> str:
    """A name from the file, quoted and shortened for messages."""
    return repr(name if len(name) <= 200 else f"{name[:200]}…")
