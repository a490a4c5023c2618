"""What `adapter_config.json` may say for vLLM to serve the adapter as it was trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.errors import InvalidAdapter

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 2**20


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
)


def read_peft_config(folder: Path, max_rank: int) -> PeftConfig:
    """Read and check it.

    Raises InvalidAdapter: `config_missing`, `config_invalid`, `not_lora`, `rank_invalid`,
    `rank_too_large`, or the code of a feature that vLLM does not serve.
    """
    raw = _read_json(folder / CONFIG_FILE)
    if raw.get("peft_type") != "LORA":
        kind = str(raw.get("peft_type"))[:80]
        raise InvalidAdapter("not_lora", f"peft_type is {kind!r}; only LORA is served")
    for field, code, what in _UNSUPPORTED:
        if raw.get(field):
            raise InvalidAdapter(code, f"{field}: vLLM does not serve {what}")
    if raw.get("bias", "none") != "none":
        raise InvalidAdapter("bias_unsupported", "bias: vLLM does not serve trained biases")
    rank = raw.get("r")
    if type(rank) is not int or rank < 1:
        raise InvalidAdapter("rank_invalid", f"r is {str(rank)[:80]!r}, not a positive number")
    if rank > max_rank:
        raise InvalidAdapter("rank_too_large", f"rank {rank} is over --max-lora-rank {max_rank}")
    base_model = raw.get("base_model_name_or_path")
    return PeftConfig(
        rank=rank,
        alpha=_alpha(raw),
        base_model=base_model[:1024] if isinstance(base_model, str) else None,
        raw=raw,
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidAdapter("config_missing", f"there is no {CONFIG_FILE}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} is over {MAX_CONFIG_BYTES} bytes")
    try:
        content = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} is not JSON") from None
    if not isinstance(content, dict):
        raise InvalidAdapter("config_invalid", f"{CONFIG_FILE} is not a JSON object")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _alpha(raw: dict[str, Any]) -> float:
    alpha: Any = raw.get("lora_alpha")
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not is_number or not 0 < float(alpha) < 1e6:
        raise InvalidAdapter("config_invalid", "lora_alpha is not a positive number")
    return float(alpha)
