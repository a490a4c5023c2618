"""Folders that hold no PEFT adapter: what they are instead, told from the names in them."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE

SHARD_INDEX = f"{WEIGHTS_FILE}.index.json"
MLX_WEIGHTS = "adapters.safetensors"

_MODEL_CONFIG = "config.json"
_MODEL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_MAX_FOLDERS = 5
_MAX_LISTED = 500

TELLING_FILES = (SHARD_INDEX, MLX_WEIGHTS, _MODEL_CONFIG, *_MODEL_WEIGHTS)
"""Names to look for where a folder can't be listed."""


def explain_missing_files(names: Iterable[str]) -> None:
    """`names` are relative to a folder that lacks the configuration or the weights.

    Raises InvalidAdapter if they tell why; otherwise inspection says what is missing.
    """
    found = frozenset(names)
    problem = _sharded(found) or _mlx(found) or _elsewhere(found) or _whole_model(found)
    if problem is not None:
        raise problem


def _sharded(names: frozenset[str]) -> InvalidAdapter | None:
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


def list_names(folder: Path) -> list[str]:
    """Some of the names in a folder and in its folders, relative to it."""
    names: list[str] = []
    for parent in (folder, *sorted(filter(_is_folder, _listed(folder)))):
        names += (str(path.relative_to(folder)) for path in _listed(parent))
    return names[:_MAX_LISTED]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _listed(folder: Path) -> list[Path]:
    try:
        return list(islice(folder.iterdir(), _MAX_LISTED))
    except OSError:
        return []
