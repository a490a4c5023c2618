"""What `adapter_config.json` may say for vLLM to serve the adapter as it was trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.errors import InvalidAdapter

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 2**20
MAX_CONFIG_LEVELS = 16


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The parts of the configuration that matter here; `raw` is all of it."""

    rank: int
    alpha: float
    base_model: str | None
    raw: dict[str, Any]


# (field, is it off?, code, what it is): features that vLLM refuses or, worse, ignores
_UNSUPPORTED = (
    ("use_dora", "dora_unsupported", "DoRA"),
    ("modules_to_save", "modules_to_save_unsupported", "whole modules beside the low-rank pairs"),
    ("rank_pattern", "rank_pattern_unsupported", "ranks that differ between modules"),
    ("alpha_pattern", "alpha_pattern_unsupported", "alphas that differ between modules"),
    ("lora_bias", "bias_unsupported", "a bias in the low-rank pair"),
    ("trainable_token_indices", "embedding_unsupported", "new or changed tokens"),
    ("layer_replication", "layer_replication_unsupported", "replicated layers"),
    ("fan_in_fan_out", "fan_in_fan_out_unsupported", "transposed weights"),
    ("alora_invocation_tokens", "alora_unsupported", "activated LoRA"),
    ("use_bdlora", "bdlora_unsupported", "block-diagonal LoRA"),
    ("use_qalora", "qalora_unsupported", "QALoRA"),
    ("arrow_config", "arrow_unsupported", "routing between adapters"),
    ("kasa_config", "kasa_unsupported", "KaSA"),
    ("monteclora_config", "monteclora_unsupported", "MonteCLoRA"),
)

# The other named ones (PiSSA, OLoRA, CorDA, LoftQ) change the base model's weights too.
_HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})


def read_peft_config(folder: Path, max_rank: int) -> PeftConfig:
    """Read and check it.

    Raises InvalidAdapter: `config_missing`, `config_invalid`, `not_lora`, `rank_invalid`,
    `rank_too_large`, or the code of a feature that vLLM does not serve.
    """
    raw = _read_json(folder / CONFIG_FILE)
    if raw.get("peft_type") != "LORA":
        kind = str(raw.get("peft_type"))[:80]
        raise InvalidAdapter("not_lora", f"peft_type is {kind!r}; only LORA is served")
    _check_features(raw)
    if "target_modules" not in raw:  # vLLM 0.32 refuses to load such a configuration
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} has no target_modules")
    return PeftConfig(
        rank=_rank(raw, max_rank), alpha=_alpha(raw), base_model=_base_model(raw), raw=raw
    )


def _check_features(raw: dict[str, Any]) -> None:
    for field, code, what in _UNSUPPORTED:
        if raw.get(field):
            raise InvalidAdapter(code, f"{field}: vLLM does not serve {what}")
    if raw.get("bias", "none") != "none":
        raise InvalidAdapter("bias_unsupported", "bias: vLLM does not serve trained biases")
    init = raw.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in _HARMLESS_INITS:
        raise InvalidAdapter(
            "init_lora_weights_unsupported",
            f"init_lora_weights: {init[:80]!r} changes the base model; save it as a plain LoRA",
        )


def _rank(raw: dict[str, Any], max_rank: int) -> int:
    rank = raw.get("r")
    if type(rank) is not int or rank < 1:
        raise InvalidAdapter("rank_invalid", f"r is {str(rank)[:80]!r}, not a positive number")
    if rank > max_rank:
        shown = str(rank)[:80]
        raise InvalidAdapter("rank_too_large", f"rank {shown} is over --max-lora-rank {max_rank}")
    return rank


def _base_model(raw: dict[str, Any]) -> str | None:
    base_model = raw.get("base_model_name_or_path")
    if not isinstance(base_model, str):
        return None
    return base_model.replace("\0", "")[:1024]  # PostgreSQL keeps no NUL in a text


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidAdapter("config_missing", f"there is no {CONFIG_FILE}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} is over {MAX_CONFIG_BYTES} bytes")
    try:
        # UTF-8 alone: from bytes, `json` would also read the UTF-16 that vLLM can't
        content = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_constant)
        # 1e999 and half characters can be read, but never be written to a table or an answer
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} is not JSON") from None
    if not isinstance(content, dict) or _is_deeper(content, MAX_CONFIG_LEVELS):
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} is not a plain JSON object")
    return content


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 1 or _is_deeper(item, levels - 1) for item in inner)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _alpha(raw: dict[str, Any]) -> float:
    alpha: Any = raw.get("lora_alpha")
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not is_number or not 0 < alpha < 1e6:
        raise InvalidAdapter("config_invalid", "lora_alpha is not a positive number")
    return float(alpha)
