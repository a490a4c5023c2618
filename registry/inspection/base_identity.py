"""Identity of a base model: what it is called, with a digest over what decides if an adapter fits.

The name tells apart models of one shape: a model and its instruct variant, two revisions. The
digest tells apart models that are called the same. It covers architecture, sizes and vocabulary,
and neither dtype nor quantization, so that variants of one model may be declared the same.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.inspection.supported_modules import SupportedModules

_MAX_NAME = 256
_REVISION_CHARACTERS = 12
_SAMPLES = 64
_SAMPLE_BYTES = 4096
_WEIGHTS = frozenset({".safetensors", ".bin", ".gguf", ".pt", ".pth"})
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")

# By one name each: configurations of older architectures call them differently.
_SIZES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "key_value_heads": (
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "multi_query_group_num",
    ),
    "head_size": ("head_dim",),
    "inner_size": ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "ffn_hidden_size"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "shared_experts": ("n_shared_experts", "shared_expert_intermediate_size"),
    "expert_size": ("moe_intermediate_size",),
    "query_rank": ("q_lora_rank",),
    "key_value_rank": ("kv_lora_rank",),
    "value_head_size": ("v_head_dim",),
}


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """`facts` is what the digest covers. `also`: what else adapters may call this model."""

    name: str
    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.name}#{self.digest}"

    def is_called(self, name: str) -> bool:
        """Whether a configuration that names `name` may mean this model."""
        names = {self.name.partition("@")[0], *self.also}
        return _last_part(name) in set(map(_last_part, names))


def identity_of(
    model: str,
    folder: Path | None,
    *,
    revision: str | None = None,
    declared: str | None = None,
    also: Iterable[str] = (),
    served: SupportedModules | None = None,
) -> BaseIdentity:
    """`model`: what the engine was started with; `folder`: its files, if they are here.

    `declared`: what the operator calls it. Without configuration the engine's modules decide.
    """
    facts = _facts(folder)
    if not facts and served is not None:
        facts = {"modules": _hash(sorted((n, m.shape) for n, m in served.modules.items()))}
    name = declared or _name_of(model, folder, revision)
    others = frozenset({model, *also} - {""})
    return BaseIdentity(name[:_MAX_NAME], _hash(facts), facts, others)


def parse_identity(text: str) -> BaseIdentity:
    """From `NAME#DIGEST`, as `str` writes it."""
    name, _, digest = text.rpartition("#")
    return BaseIdentity(name, digest)


def unread_identity(name: str) -> BaseIdentity:
    """Of a base model without files, as tests and tools have it."""
    return BaseIdentity(name, _hash({}))


def _name_of(model: str, folder: Path | None, revision: str | None) -> str:
    """The Hub's name and commit, or the folder's name and a mark of its weights."""
    if folder is None:
        return f"{model}@{revision}" if revision else model
    if (repository := _cached_repository(folder)) is not None:
        called = repository if Path(model).exists() else model
        return f"{called}@{folder.name[:_REVISION_CHARACTERS]}"
    mark = _mark_of_weights(folder)
    called = folder.resolve().name or model
    return f"{called}@{mark}" if mark else called


def _cached_repository(folder: Path) -> str | None:
    """`org/name`, if the folder is `models--org--name/snapshots/COMMIT` in the Hub's cache."""
    kind, _, repository = folder.parent.parent.name.partition("--")
    if folder.parent.name != "snapshots" or kind != "models":
        return None
    return repository.replace("--", "/")


def _facts(folder: Path | None) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_bytes()) if folder is not None else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    config = dict(content)
    for name in _TEXT_CONFIGS:
        inner = content.get(name)
        config |= inner if isinstance(inner, dict) else {}
    sizes = {name: _first_number(config, keys) for name, keys in _SIZES.items()}
    _fill_defaults(sizes)
    architectures = content.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    facts = {"architecture": architecture or config.get("model_type"), **sizes}
    return {name: value for name, value in sorted(facts.items()) if value is not None}


def _fill_defaults(sizes: dict[str, int | None]) -> None:
    """As models compute them: one library writes what another leaves out."""
    heads, width = sizes["heads"], sizes["hidden_size"]
    sizes["key_value_heads"] = sizes["key_value_heads"] or heads
    if sizes["head_size"] is None and heads and width:
        sizes["head_size"] = width // heads


def _first_number(config: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    found = (config.get(key) for key in keys)
    return next((value for value in found if type(value) is int), None)


def _mark_of_weights(folder: Path) -> str | None:
    """Samples of each file: a new training changes nearly all numbers. None without files."""
    digest, found = hashlib.sha256(), False
    try:
        for file in sorted(folder.iterdir()):
            if file.suffix in _WEIGHTS and file.is_file():
                found = True
                _add_samples(digest, file)
    except OSError:
        return None
    return digest.hexdigest()[:_REVISION_CHARACTERS] if found else None


def _add_samples(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name} {size}\n".encode())
    with file.open("rb") as content:
        for offset in dict.fromkeys(size * part // _SAMPLES for part in range(_SAMPLES)):
            content.seek(offset)
            digest.update(content.read(_SAMPLE_BYTES))


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _last_part(name: str) -> str:
    """`org/Model`, `/models/Model/` and a snapshot of it in the Hub's cache are all `model`."""
    cached = re.search(r"models--(?:[^/]+--)?([^/]+)/snapshots/", name + "/")
    return (cached.group(1) if cached else name.rstrip("/").rpartition("/")[2]).lower()
