"""Base model as an adapter must fit it: weights from their headers, and the engine's modules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry.inspection.base_identity import BaseIdentity, unread_identity
from registry.inspection.safetensors_header import TensorInfo, read_header
from registry.inspection.supported_modules import Shape, SupportedModules
from registry.inspection.training import BaseTraining

# Quantized weights may be packed, several per number, so that the stored shape is not the layer's.
# These are the names of packed tensors in GPTQ and AWQ, compressed-tensors, HQQ and AQLM;
# bitsandbytes and ModelOpt keep the name `weight` and store bytes.
_PACKED_NAMES = frozenset({"qweight", "weight_packed", "W_q", "codes"})
_PACKED_DTYPES = frozenset({"U8", "I32", "U32", "F4", "F6_E2M3", "F6_E3M2"})

_EMBEDDINGS = ("embed_tokens", "lm_head")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the base model in its file."""

    file: Path
    info: TensorInfo


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`shapes` maps a module to (out_features, in_features); None where they aren't known.

    `served` is None without an engine. `embeddings`: the weights of embedding and head by module.
    `read`: its identity, by its files.
    """

    name: str
    shapes: Mapping[str, Shape | None] | None
    served: SupportedModules | None = None
    embeddings: Mapping[str, StoredTensor] = field(default_factory=dict)
    training: BaseTraining | None = None
    read: BaseIdentity | None = None

    @property
    def identity(self) -> BaseIdentity:
        """As it was read, else the name alone."""
        return self.read or unread_identity(self.name)

    def doubt(self, trained_on: str | None) -> str | None:
        """What to remark on an adapter whose configuration names another base model."""
        if not trained_on or self.identity.is_called(trained_on):
            return None
        return f"trained on {trained_on[:100]!r}; the base model here is {self.identity.name}"

    def embedding(self, module: str) -> StoredTensor | None:
        """The module's weights; for a tied head, those of the input embedding."""
        for name in dict.fromkeys((module.rpartition(".")[2], *_EMBEDDINGS[:1])):
            found = [stored for key, stored in self.embeddings.items() if _is_named(key, name)]
            if len(found) == 1:
                return found[0]
        return None


def read_base_model(
    name: str, folder: Path | None, served: SupportedModules | None = None
) -> BaseModel:
    """Read the headers of all safetensors files in the folder.

    Without files (no folder, or another format) and without an engine, compatibility can't be
    checked; of a layer with packed weights only its name is known.
    Raises InvalidAdapter if a file is broken.
    """
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    shapes: dict[str, Shape | None] = {}
    embeddings: dict[str, StoredTensor] = {}
    for file in files:
        for tensor_name, tensor in read_header(file).items():
            module, dot, kind = tensor_name.rpartition(".")
            if dot and (kind in _PACKED_NAMES or (kind == "weight" and len(tensor.shape) == 2)):
                shapes[module] = None if _is_packed(kind, tensor) else _matrix(tensor)
            if kind == "weight" and any(_is_named(module, name) for name in _EMBEDDINGS):
                embeddings[module] = StoredTensor(file, tensor)
    training = None if folder is None else BaseTraining(folder)
    return BaseModel(name, shapes or None, served, embeddings, training)


def _is_packed(kind: str, tensor: TensorInfo) -> bool:
    return kind in _PACKED_NAMES or tensor.dtype in _PACKED_DTYPES


def _matrix(tensor: TensorInfo) -> Shape:
    return tensor.shape[0], tensor.shape[1]


def _is_named(module: str, name: str) -> bool:
    return module.rpartition(".")[2] == name
