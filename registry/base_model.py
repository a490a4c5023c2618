"""What an adapter has to fit: the shapes of the base model's weights, from their own headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.safetensors_header import read_header


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`shapes` maps a module to (out_features, in_features); None if they aren't known."""

    name: str
    shapes: Mapping[str, tuple[int, int]] | None


def read_base_model(name: str, folder: Path | None) -> BaseModel:
    """Read the headers of all safetensors files in the folder.

    Without any (no folder, or weights in another format) adapters can't be checked for fit.
    Raises InvalidAdapter if a file is broken.
    """
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    shapes: dict[str, tuple[int, int]] = {}
    for file in files:
        for tensor_name, tensor in read_header(file).items():
            module, dot, kind = tensor_name.rpartition(".")
            if dot and kind == "weight" and len(tensor.shape) == 2:
                shapes[module] = (tensor.shape[0], tensor.shape[1])
    return BaseModel(name, shapes or None)
