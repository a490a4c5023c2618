"""PEFT configuration: what `adapter_config.json` may contain for vLLM to serve the adapter."""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.invocation import INVOCATION_FIELD, form_problems
from registry.inspection.rank_patterns import resolve
from registry.inspection.safetensors_header import check_no_pointer
from registry.inspection.tensors import HEADS, quote_name

Value = TypeVar("Value")

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 2**20
MAX_CONFIG_LEVELS = 16

_UTF_16 = ((codecs.BOM_UTF16_LE, "the mark of UTF-16"), (codecs.BOM_UTF16_BE, "the mark of UTF-16"))


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The relevant parts of the configuration; `raw` is all of it."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    base_model: str | None
    saved_modules: tuple[str, ...]
    raw: dict[str, Any]

    def ranks(self, modules: Iterable[str]) -> dict[str, int]:
        """The rank of each module. Raises InvalidAdapter: `pattern_invalid`."""
        return _resolve("rank_pattern", self.rank_pattern, modules, self.rank)

    def alphas(self, modules: Iterable[str]) -> dict[str, float]:
        """The alpha of each module. Raises InvalidAdapter: `pattern_invalid`."""
        return _resolve("alpha_pattern", self.alpha_pattern, modules, self.alpha)


# (field, code, what it is): features that vLLM refuses or, worse, ignores
UNSUPPORTED = (
    ("use_dora", Defect.DORA_UNSUPPORTED, "DoRA"),
    ("lora_bias", Defect.BIAS_UNSUPPORTED, "a bias in the low-rank pair"),
    ("trainable_token_indices", Defect.TRAINABLE_TOKENS_UNSUPPORTED, "new or changed tokens"),
    ("layer_replication", Defect.LAYER_REPLICATION_UNSUPPORTED, "replicated layers"),
    ("use_bdlora", Defect.BDLORA_UNSUPPORTED, "block-diagonal LoRA"),
    ("use_qalora", Defect.QALORA_UNSUPPORTED, "QALoRA"),
    ("arrow_config", Defect.ARROW_UNSUPPORTED, "routing between adapters"),
    ("kasa_config", Defect.KASA_UNSUPPORTED, "KaSA"),
    ("monteclora_config", Defect.MONTECLORA_UNSUPPORTED, "MonteCLoRA"),
    ("velora_config", Defect.VELORA_UNSUPPORTED, "VeLoRA"),
)

# The other named ones (PiSSA, OLoRA, CorDA, LoftQ) change the base model's weights too.
_HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})

CHECKED = frozenset(
    {"peft_type", "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "bias"}
    | {"init_lora_weights", "use_rslora", "base_model_name_or_path", "modules_to_save"}
    | {INVOCATION_FIELD}
    | {field for field, _, _ in UNSUPPORTED}
)
"""Fields that are checked here."""

HARMLESS = frozenset(
    # determined which tensors exist; the tensors themselves are checked
    {"exclude_modules", "layers_to_transform", "layers_pattern", "target_parameters"}
    # relevant for training, or for how PEFT loads or merges
    | {"lora_dropout", "loftq_config", "eva_config", "corda_config", "lora_ga_config"}
    | {"ensure_weight_tying", "fan_in_fan_out", "qalora_group_size", "runtime_config"}
    | {"megatron_config", "megatron_core", "inference_mode"}
    # notes
    | {"task_type", "auto_mapping", "revision", "peft_version"}
)
"""Fields of PEFT 0.21 that do not affect the meaning of the tensors."""


def _resolve(
    field: str, pattern: Mapping[str, Value], modules: Iterable[str], default: Value
) -> dict[str, Value]:
    names = {module: parameter_name(module) for module in modules}
    found = resolve(field, pattern, names.values(), default)
    return {module: found[name] for module, name in names.items()}


def parameter_name(module: str) -> str:
    """What PEFT matches patterns with: of a mixture's parameters, not the module's own name.

    It saves `gate_up_proj` as `experts.base_layer`, and `down_proj` as `experts`.
    """
    if module.endswith(".experts.base_layer"):
        return module.removesuffix(".base_layer") + ".gate_up_proj"
    return module + ".down_proj" if module.endswith(".experts") else module


def read_json_config(folder: Path) -> dict[str, Any]:
    """Read the configuration. Raises InvalidAdapter: `config_missing` or `config_invalid`."""
    raw = _read_json(folder / CONFIG_FILE)
    if "fine_tune_type" in raw and "peft_type" not in raw:
        detail = f"{CONFIG_FILE} is one of MLX: convert the adapter to PEFT's names and files"
        raise InvalidAdapter(Defect.MLX_ADAPTER, detail)
    if raw.get("peft_type") != "LORA":
        kind = str(raw.get("peft_type"))[:80]
        raise InvalidAdapter(Defect.NOT_LORA, f"peft_type is {kind!r}; only LORA is served")
    return raw


def config_problems(raw: Mapping[str, Any], max_rank: int) -> Iterator[InvalidAdapter]:
    """Everything that is invalid or that vLLM does not serve."""
    for field, code, what in UNSUPPORTED:
        if raw.get(field):
            yield InvalidAdapter(code, f"{field}: vLLM does not serve {what}")
    if others := [name for name in saved_modules(raw) if name not in HEADS]:
        yield InvalidAdapter(
            Defect.MODULES_TO_SAVE_UNSUPPORTED,
            f"modules_to_save: {quote_name(str(others[0]))}: vLLM serves no whole modules but "
            "classification heads",
        )
    if raw.get("bias", "none") != "none":
        yield InvalidAdapter(Defect.BIAS_UNSUPPORTED, "bias: vLLM does not serve trained biases")
    init = raw.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in _HARMLESS_INITS:
        yield InvalidAdapter(
            Defect.INIT_LORA_WEIGHTS_UNSUPPORTED,
            f"init_lora_weights={init[:80]!r} changes the base model; save it as a plain LoRA",
        )
    if "target_modules" not in raw:  # vLLM 0.32 refuses to load such a configuration
        yield InvalidAdapter(Defect.CONFIG_INVALID, f"{CONFIG_FILE} has no target_modules")
    yield from _rank_problems(raw, max_rank)
    yield from _alpha_problems(raw)
    yield from form_problems(raw)


def peft_config(raw: dict[str, Any]) -> PeftConfig:
    """Parse a configuration without problems."""
    return PeftConfig(
        rank=raw["r"],
        alpha=float(raw["lora_alpha"]),
        rank_pattern=raw.get("rank_pattern") or {},
        alpha_pattern=raw.get("alpha_pattern") or {},
        base_model=_base_model(raw),
        saved_modules=tuple(saved_modules(raw)),
        raw=raw,
    )


def saved_modules(raw: Mapping[str, Any]) -> list[Any]:
    """The modules that were trained whole, as the configuration names them."""
    saved = raw.get("modules_to_save") or []
    return saved if isinstance(saved, list) else [saved]


def unknown_fields(raw: Mapping[str, Any]) -> list[str]:
    """Set fields that PEFT 0.21 does not have."""
    return sorted(name for name, value in raw.items() if value and name not in CHECKED | HARMLESS)


def _rank_problems(raw: Mapping[str, Any], max_rank: int) -> Iterator[InvalidAdapter]:
    pattern = raw.get("rank_pattern") or {}
    if not isinstance(pattern, dict):
        yield InvalidAdapter(Defect.CONFIG_INVALID, "rank_pattern is not a JSON object")
        pattern = {}
    for name, rank in (("r", raw.get("r")), *pattern.items()):
        if type(rank) is not int or rank < 1:
            shown = f"{name[:80]} is {str(rank)[:80]!r}"
            yield InvalidAdapter(Defect.RANK_INVALID, f"{shown}, not a positive number")
        elif rank > max_rank:  # vLLM refuses it even if no module uses it
            shown = f"{name[:80]}: rank {str(rank)[:80]}"
            yield InvalidAdapter(
                Defect.RANK_TOO_LARGE, f"{shown} is over --max-lora-rank {max_rank}"
            )


def _alpha_problems(raw: Mapping[str, Any]) -> Iterator[InvalidAdapter]:
    pattern = raw.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        yield InvalidAdapter(Defect.CONFIG_INVALID, "alpha_pattern is not a JSON object")
        pattern = {}
    for name, alpha in (("lora_alpha", raw.get("lora_alpha")), *pattern.items()):
        is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not is_number or not -1e6 < alpha < 1e6:
            yield InvalidAdapter(Defect.CONFIG_INVALID, f"{name[:80]} is no number for an alpha")


def _base_model(raw: Mapping[str, Any]) -> str | None:
    base_model = raw.get("base_model_name_or_path")
    if not isinstance(base_model, str):
        return None
    return base_model.replace("\0", "")[:1024]  # PostgreSQL stores no NUL in text


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidAdapter(Defect.CONFIG_MISSING, f"there is no {CONFIG_FILE}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InvalidAdapter(
            Defect.CONFIG_INVALID, f"{CONFIG_FILE} is over {MAX_CONFIG_BYTES} bytes"
        )
    text = path.read_bytes()
    check_no_pointer(text, CONFIG_FILE)
    _check_encoding(text)
    try:
        # only UTF-8: from bytes `json` would also read UTF-16, which vLLM does not
        content = json.loads(text.decode("utf-8"), parse_constant=_reject_constant)
        # 1e999 and lone surrogates can be parsed, but not stored or sent
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InvalidAdapter(Defect.CONFIG_INVALID, f"{CONFIG_FILE} is not JSON") from None
    if not isinstance(content, dict) or _is_deeper(content, MAX_CONFIG_LEVELS):
        raise InvalidAdapter(Defect.CONFIG_INVALID, f"{CONFIG_FILE} is not a plain JSON object")
    return content


def _check_encoding(text: bytes) -> None:
    """PEFT and vLLM read neither a byte order mark nor UTF-16, which editors on Windows write."""
    for mark, name in ((codecs.BOM_UTF8, "a byte order mark"), *_UTF_16):
        if text.startswith(mark):
            detail = f"{CONFIG_FILE} begins with {name}: save it as plain UTF-8"
            raise InvalidAdapter(Defect.CONFIG_INVALID, detail)


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 1 or _is_deeper(item, levels - 1) for item in inner)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
