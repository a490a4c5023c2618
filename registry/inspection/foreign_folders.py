"""Folders that hold no PEFT adapter: what they are instead, told from the names in them.

Only of an adapter of a diffusion model the file has any name, and the names of its tensors tell:
they are at its start, which every source can read.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.inspection.tensor_names import diffusion_tool
from registry.inspection.tensors import quote_name

SHARD_INDEX = f"{WEIGHTS_FILE}.index.json"
MLX_WEIGHTS = "adapters.safetensors"
DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"

_MODEL_CONFIG = "config.json"
_MODEL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_MAX_FOLDERS = 5
_TENSOR_NAME = re.compile(rb'"([^"\\]{1,1024})":\s*\{')
MAX_STARTS = 5
START_BYTES = 4 * 2**20  # kohya's scripts write what they were trained with before the names
_MAX_LISTED = 500

TELLING_FILES = (SHARD_INDEX, MLX_WEIGHTS, DIFFUSERS_WEIGHTS, _MODEL_CONFIG, *_MODEL_WEIGHTS)
"""Names to look for where a folder can't be listed."""


def explain_missing_files(names: Iterable[str], starts: Iterable[tuple[str, bytes]] = ()) -> None:
    """`names` are relative to a folder that lacks the configuration or the weights.

    `starts`: names and first bytes of weights in it, looked at if no name tells. Raises
    InvalidAdapter if they tell why; otherwise inspection says what is missing.
    """
    found = frozenset(names)
    problem = _refuse_shards(found) or _mlx(found) or _elsewhere(found) or _whole_model(found)
    problem = problem or _diffusion(found, starts)
    if problem is not None:
        raise problem


def _refuse_shards(names: frozenset[str]) -> InvalidAdapter | None:
    shards = [name for name in names if name.startswith("adapter_model-00")]
    if SHARD_INDEX not in names and not shards:
        return None
    detail = "the weights are in several files: merge them into one adapter_model.safetensors"
    return InvalidAdapter(Defect.WEIGHTS_SHARDED, detail)


def _mlx(names: frozenset[str]) -> InvalidAdapter | None:
    if MLX_WEIGHTS not in names or WEIGHTS_FILE in names:
        return None
    detail = f"{MLX_WEIGHTS}: this is an adapter of MLX; convert it to PEFT's names and files"
    return InvalidAdapter(Defect.MLX_ADAPTER, detail)


def _elsewhere(names: frozenset[str]) -> InvalidAdapter | None:
    """Trainers save one folder per checkpoint, and PEFT one per named adapter."""
    if CONFIG_FILE in names or WEIGHTS_FILE in names:
        return None
    folders = sorted(
        name.removesuffix(f"/{CONFIG_FILE}") for name in names if name.endswith(f"/{CONFIG_FILE}")
    )
    if not folders:
        return None
    shown = ", ".join(f"{folder[:80]}/" for folder in folders[:_MAX_FOLDERS])
    more = "" if len(folders) <= _MAX_FOLDERS else f" and {len(folders) - _MAX_FOLDERS} more"
    detail = f"there is no {CONFIG_FILE} here, but in {shown}{more}: name one of these folders"
    return InvalidAdapter(Defect.CONFIG_MISSING, detail)


def _whole_model(names: frozenset[str]) -> InvalidAdapter | None:
    if CONFIG_FILE in names or WEIGHTS_FILE in names or _MODEL_CONFIG not in names:
        return None
    if not any(name.startswith("model-00") or name in _MODEL_WEIGHTS for name in names):
        return None
    detail = (
        "this is a whole model, not an adapter: save the adapter by itself, without merging it, "
        "or serve the model on a server of its own"
    )
    return InvalidAdapter(Defect.WHOLE_MODEL, detail)


def _diffusion(names: frozenset[str], starts: Iterable[tuple[str, bytes]]) -> InvalidAdapter | None:
    if CONFIG_FILE in names:
        return None
    if DIFFUSERS_WEIGHTS in names:
        return _of_diffusion(DIFFUSERS_WEIGHTS, "diffusers")
    for name, start in islice(starts, MAX_STARTS):
        if (tool := _tool_of(start)) is not None:
            return _of_diffusion(name, tool)
    return None


def _of_diffusion(name: str, tool: str) -> InvalidAdapter:
    detail = (
        f"{quote_name(name)}: this is an adapter of a diffusion model, saved by {tool}: no engine "
        "for text serves it"
    )
    return InvalidAdapter(Defect.DIFFUSION_ADAPTER, detail)


def _tool_of(start: bytes) -> str | None:
    header = start[8 : 8 + int.from_bytes(start[:8], "little")]
    names = (found.decode("utf-8", "replace") for found in _TENSOR_NAME.findall(header))
    return next(filter(None, map(diffusion_tool, names)), None)


def is_weights(name: str) -> bool:
    """Whether its start may tell what it is."""
    return name.endswith(".safetensors")


def starts_in(folder: Path, *, follows_links: bool = False) -> Iterator[tuple[str, bytes]]:
    """Of the weights in a local folder.

    No link is followed, unless told so: it may lead out of what the server may read.
    """
    for file in sorted(path for path in _list_files(folder) if is_weights(path.name)):
        if (file.is_symlink() and not follows_links) or not file.is_file():
            continue
        with suppress(OSError), file.open("rb") as content:
            yield file.name, content.read(START_BYTES)


def list_names(folder: Path) -> list[str]:
    """Some of the names in a folder and in its folders, relative to it."""
    names: list[str] = []
    for parent in (folder, *sorted(filter(_is_folder, _list_files(folder)))):
        names += (str(path.relative_to(folder)) for path in _list_files(parent))
    return names[:_MAX_LISTED]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _list_files(folder: Path) -> list[Path]:
    try:
        return list(islice(folder.iterdir(), _MAX_LISTED))
    except OSError:
        return []
