"""Inspection: every refusal by its code, each from a good adapter with one thing broken."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.errors import EngineAway, InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel, StoredTensor, read_base_model
from registry.inspection.content_digest import content_digest
from registry.inspection.fit import find_misfit
from registry.inspection.inspector import Finding, Inspection, inspect_adapter, judge_adapter
from registry.inspection.safetensors_header import read_header
from registry.inspection.supported_modules import (
    ClassificationHead,
    SupportedModule,
    SupportedModules,
    UnknownNaming,
)
from registry.inspection.training import BaseTraining
from tests.support.adapters.fake_naming import FakeNaming

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "demo"
OUT, IN, RANK, MAX_RANK = 6, 10, 4, 16
MODULE = "model.layers.0.self_attn.q_proj"
OTHER = "model.layers.1.self_attn.q_proj"
ROUTER = "model.layers.0.mlp.gate"  # the base model has it, the engine takes no adapter for it
EMBEDDING, HEAD, TOKENS = "model.embed_tokens", "lm_head", 32
EXPERTS = [f"model.layers.0.mlp.experts.{n}.w{m}" for n in range(2) for m in (1, 2, 3)]
SHAPES = {
    **dict.fromkeys((MODULE, OTHER, ROUTER, *EXPERTS), (OUT, IN)),
    **dict.fromkeys((EMBEDDING, HEAD), (TOKENS, IN)),
}
MODULES = {
    MODULE: SupportedModule((OUT, IN)),
    OTHER: SupportedModule((OUT, IN)),
    EMBEDDING: SupportedModule((IN, TOKENS), is_embedding=True),
    HEAD: SupportedModule((TOKENS, IN)),
    **{name: SupportedModule(None) for name in EXPERTS},
}


def engine(*names: str, **facts: Any) -> SupportedModules:
    """Serves these modules, or all."""
    modules = {name: MODULES[name] for name in names or MODULES}
    naming = FakeNaming(modules, {".first.": "."})
    return SupportedModules("vllm 0.32.0", modules, naming, **facts)


SERVED = engine()
BASE = BaseModel("tiny", SHAPES, SERVED)
HEADERS_ALONE = BaseModel("tiny", SHAPES)
OLDER_ENGINE = replace(BASE, served=engine(patterns=False))
LINEAR_ENGINE = replace(BASE, served=engine(MODULE, OTHER))
LABELS = 3
CLASSIFIER = replace(
    BASE,
    served=SupportedModules(
        "vllm 0.32.0",
        {MODULE: SupportedModule((OUT, IN)), "score": SupportedModule((LABELS, IN))},
        FakeNaming([MODULE, "score"]),
        head=ClassificationHead("score", LABELS, IN),
    ),
)
MIXTURE = "model.layers.0.mlp.experts"
MIXTURES = {name: SupportedModule(None, experts=2) for name in (MIXTURE, f"{MIXTURE}.base_layer")}
ONE_EXPERT = {f"{MIXTURE}.0.gate_proj": (OUT, IN)}  # as it lies in the base model's files
BOTH_FORMS = BaseModel(
    "tiny",
    {**SHAPES, **ONE_EXPERT},
    SupportedModules("vllm 0.32.0", {**MODULES, **MIXTURES}, FakeNaming([*MODULES, *MIXTURES])),
)
UNKNOWN_BASE = BaseModel("tiny", None)
ACTIVATED = engine(activated_refusal=None)


def with_vocabulary(served: SupportedModules | None) -> BaseModel:
    """The demo's: 264 tokens, of which its tokenizer has 258."""
    return replace(BASE, served=served, training=BaseTraining(DEMO / "base"))


ACTIVATED_BASE = with_vocabulary(ACTIVATED)

Array = np.ndarray[Any, Any]


def key(module: str, which: str) -> str:
    return f"base_model.model.{module}.lora_{which}.weight"


def matrix(*shape: int) -> Array:
    return np.full(shape, 0.5, dtype=np.float32)


def pair(module: str = MODULE, rank: int = RANK) -> dict[str, Array]:
    return {key(module, "A"): matrix(rank, IN), key(module, "B"): matrix(OUT, rank)}


def embedding_pair(tokens: int = TOKENS) -> dict[str, Array]:
    prefix = f"base_model.model.{EMBEDDING}.lora_embedding_"
    return {f"{prefix}A": matrix(RANK, tokens), f"{prefix}B": matrix(IN, RANK)}


def head_pair() -> dict[str, Array]:
    return {key(HEAD, "A"): matrix(RANK, IN), key(HEAD, "B"): matrix(TOKENS, RANK)}


def expert_pairs() -> dict[str, Array]:
    return {name: tensor for module in EXPERTS for name, tensor in pair(module).items()}


def repeated(module: str) -> str:
    return f"base_model.model.{module}.base_layer.weight"


def mixture_pairs(**ranks: int) -> dict[str, Array]:
    """As PEFT saves pairs for the parameters `gate_up_proj` and `down_proj` of all experts."""
    first, second = f"{MIXTURE}.base_layer", MIXTURE
    r, s = (ranks.get(name, RANK) * 2 for name in ("gate_up_proj", "down_proj"))
    return {
        key(first, "A"): matrix(r, IN),
        key(first, "B"): matrix(2 * OUT, r),
        key(second, "A"): matrix(s, OUT),
        key(second, "B"): matrix(IN, s),
    }


def whole(name: str, labels: int = LABELS, **parts: Array) -> dict[str, Array]:
    """A classification head, as PEFT saves it."""
    weight = {"weight": matrix(labels, IN)}
    return {f"base_model.model.{name}.{part}": t for part, t in {**weight, **parts}.items()}


@dataclass
class Draft:
    """A good adapter, to be broken by tests. `files` replace what would be written."""

    config: dict[str, Any] = field(
        default_factory=lambda: {
            "peft_type": "LORA",
            "r": RANK,
            "lora_alpha": 8,
            "target_modules": ["q_proj"],
            "bias": "none",
            "base_model_name_or_path": "tiny",
        }
    )
    tensors: dict[str, Array] = field(default_factory=pair)
    files: dict[str, bytes | None] = field(default_factory=dict)
    base: BaseModel = BASE

    def write(self, folder: Path) -> Path:
        (folder / "adapter_config.json").write_text(json.dumps(self.config))
        save_file(self.tensors, folder / "adapter_model.safetensors")
        for name, content in self.files.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content)
        return folder


def raw_weights(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def activated(
    tokens: object, tensors: dict[str, Array] | None = None, base: BaseModel = ACTIVATED_BASE
) -> Draft:
    config = {**Draft().config, "alora_invocation_tokens": tokens}
    return Draft(config=config, tensors=tensors or pair(), base=base)


def configured(**fields: Any) -> Draft:
    draft = Draft()
    draft.config.update(fields)
    return draft


def with_head(
    name: str = "score", base: BaseModel | None = None, labels: int = LABELS, **parts: Array
) -> Draft:
    """As PEFT saves every adapter of a classifier."""
    draft = configured(modules_to_save=["classifier", "score"])
    draft.tensors = {**pair(), **whole(name, labels, **parts)}
    draft.base = base or CLASSIFIER
    return draft


def with_mixture(base: BaseModel | None = None, **ranks: int) -> Draft:
    draft = configured(rank_pattern=ranks)
    draft.tensors = {**pair(), **mixture_pairs(**ranks)}
    draft.base = base or BOTH_FORMS
    return draft


def without(name: str) -> Draft:
    draft = Draft()
    del draft.config[name]
    return draft


def weighing(tensors: dict[str, Array]) -> Draft:
    return Draft(tensors=tensors)


def config_text(content: str | bytes) -> Draft:
    raw = content if isinstance(content, bytes) else content.encode()
    return Draft(files={"adapter_config.json": raw})


def config_with(json_text: str) -> Draft:
    """A good configuration and one more field, written as it stands here."""
    return config_text(json.dumps(Draft().config)[:-1] + f', "more": {json_text}}}')


def weights_file(content: bytes | None) -> Draft:
    return Draft(files={"adapter_model.safetensors": content})


def holding(value: float, dtype: type = np.float32) -> Draft:
    tensors: dict[str, Array] = {name: tensor.astype(dtype) for name, tensor in pair().items()}
    tensors[key(MODULE, "B")][-1, -1] = value
    return weighing(tensors)


def by_bits(dtype: str, bits: int, usual: int) -> Draft:
    """For formats that numpy lacks the file is handmade. The last number has these bits."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in pair().items():
        numbers = np.full(tensor.shape, usual, dtype="<u2" if dtype == "BF16" else "u1")
        numbers[-1, -1] = bits
        offsets = [len(data), len(data) + numbers.nbytes]
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": offsets}
        data += numbers.tobytes()
    return weights_file(raw_weights(json.dumps(header).encode(), data))


def bfloat16(bits: int = 0x3F80) -> Draft:
    return by_bits("BF16", bits, usual=0x3F80)


def float8(dtype: str, bits: int = 0x38) -> Draft:
    return by_bits(dtype, bits, usual=0x38)


def wrapped_in(form: str) -> Draft:
    return weighing({form.format(f"{MODULE}.lora_{half}.weight"): matrix(2, 2) for half in "AB"})


def saved_as(*names: str) -> Draft:
    return weighing({name: matrix(2, 2) for name in names})


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
WRAPPED = {
    "torch.compile": "base_model.model._orig_mod.{}",
    "torch.compile around PEFT": "_orig_mod.base_model.model.{}",
    "FSDP": "base_model.model._fsdp_wrapped_module.{}",
    "activation checkpointing": "base_model.model._checkpoint_wrapped_module.{}",
    "DDP": "base_model.model.module.{}",
    "DDP around PEFT": "module.base_model.model.{}",
}

DIFFUSION = {
    "kohya's scripts": [
        f"lora_unet_down_blocks_0_attentions_0_proj_in.{part}"
        for part in ("lora_down.weight", "lora_up.weight", "alpha")
    ],
    "diffusers": [f"unet.down_blocks.0.attentions.0.to_q.lora_{half}.weight" for half in "AB"],
    "diffusers, of Flux": [
        f"transformer.transformer_blocks.0.attn.to_q.lora_{half}.weight" for half in "AB"
    ],
    "ComfyUI": [f"diffusion_model.double_blocks.0.lora_{half}.weight" for half in "AB"],
}

REFUSED: dict[str, dict[str, Callable[[], Draft]]] = {
    "config_missing": {
        "no file": lambda: Draft(files={"adapter_config.json": None}),
    },
    "config_invalid": {
        "no JSON": lambda: config_text("{"),
        "empty": lambda: config_text(""),
        "a list": lambda: config_text("[]"),
        "UTF-16, which vLLM can't read": lambda: config_text(
            json.dumps(Draft().config).encode("utf-16")
        ),
        "a byte order mark": lambda: config_text(b"\xef\xbb\xbf" + b"{}"),
        "NaN": lambda: config_with("NaN"),
        "a number beyond any": lambda: config_with("1e999"),
        "half a character": lambda: config_with('"\\ud800"'),
        "deeper than a table can keep": lambda: config_with("[" * 500 + "]" * 500),
        "deeper than can be read": lambda: config_text("[" * 100_000),
        "huge": lambda: config_text(" " * (2**20 + 1)),
        "no target_modules": lambda: without("target_modules"),
        "no alpha": lambda: without("lora_alpha"),
        "alpha is text": lambda: configured(lora_alpha="8"),
        "alpha is a truth": lambda: configured(lora_alpha=True),
        "alpha is enormous": lambda: configured(lora_alpha=1e6),
        "an alpha of the pattern is text": lambda: configured(alpha_pattern={"q_proj": "8"}),
        "rank_pattern is a list": lambda: configured(rank_pattern=["q_proj"]),
        "alpha_pattern is a list": lambda: configured(alpha_pattern=["q_proj"]),
        "alpha is beyond any float": lambda: configured(lora_alpha=10**400),
    },
    "not_lora": {
        "another kind": lambda: configured(peft_type="IA3"),
        "none": lambda: without("peft_type"),
        "no text": lambda: configured(peft_type=["LORA"]),
    },
    "rank_invalid": {
        "none": lambda: without("r"),
        "zero": lambda: configured(r=0),
        "negative": lambda: configured(r=-1),
        "text": lambda: configured(r="4"),
        "a truth": lambda: configured(r=True),
        "a fraction": lambda: configured(r=4.0),
        "null": lambda: configured(r=None),
        "zero in the pattern": lambda: configured(rank_pattern={"q_proj": 0}),
        "text in the pattern": lambda: configured(rank_pattern={"q_proj": "4"}),
    },
    "rank_too_large": {
        "one too many": lambda: configured(r=MAX_RANK + 1),
        "absurd": lambda: configured(r=10**4000),
        "in the pattern": lambda: configured(rank_pattern={"nothing": MAX_RANK + 1}),
    },
    "dora_unsupported": {"": lambda: configured(use_dora=True)},
    "modules_to_save_unsupported": {
        "no head": lambda: configured(modules_to_save=["score", "embed_tokens"]),
        "no list": lambda: configured(modules_to_save={"a": 1}),
        "of an engine without one": lambda: with_head(base=BASE),
        "and no engine is asked": lambda: with_head(base=HEADERS_ALONE),
        "under another name": lambda: with_head(name="classifier"),
        "two of them": lambda: Draft(
            base=CLASSIFIER,
            config=with_head().config,
            tensors={**pair(), **whole("score"), **whole("classifier")},
        ),
    },
    "pattern_invalid": {
        "no regular expression": lambda: configured(alpha_pattern={"(": 8}),
        "one of the other library's": lambda: configured(alpha_pattern={"(?:q_prok){e<=1}": 8}),
        "a look ahead": lambda: configured(rank_pattern={"(?=.*)q_proj": 8}),
        "empty": lambda: configured(rank_pattern={"": 8}),
        "too long": lambda: configured(rank_pattern={"q" * 513: 8}),
        "one that takes for ever": lambda: configured(alpha_pattern={"(.|.)*l": 8}),
    },
    "rank_pattern_unsupported": {
        "by an engine that is not asked": lambda: Draft(
            base=HEADERS_ALONE,
            config={**Draft().config, "rank_pattern": {"q_proj": 8}},
            tensors=pair(rank=8),
        ),
        "by an older engine": lambda: Draft(
            base=OLDER_ENGINE,
            config={**Draft().config, "rank_pattern": {"q_proj": 8}},
            tensors=pair(rank=8),
        ),
    },
    "alpha_pattern_unsupported": {
        "by an engine that is not asked": lambda: Draft(
            base=HEADERS_ALONE, config={**Draft().config, "alpha_pattern": {"q_proj": 16}}
        ),
        "by an older engine": lambda: Draft(
            base=OLDER_ENGINE, config={**Draft().config, "alpha_pattern": {"q_proj": 16}}
        ),
    },
    "bias_unsupported": {
        "all": lambda: configured(bias="all"),
        "lora_only": lambda: configured(bias="lora_only"),
        "null": lambda: configured(bias=None),
        "in the pair": lambda: configured(lora_bias=True),
    },
    "layer_replication_unsupported": {"": lambda: configured(layer_replication=[[0, 2], [1, 3]])},
    "invocation_invalid": {
        "empty": lambda: activated([]),
        "no list": lambda: activated("12"),
        "no ids": lambda: activated([1, "2"]),
        "a truth value": lambda: activated([True]),
        "below zero": lambda: activated([1, -1]),
        "very long": lambda: activated([1] * 1025),
        "beyond the vocabulary": lambda: activated([1, 264]),
        "beyond the tokenizer": lambda: activated([258]),
    },
    "alora_unsupported": {
        "by this engine": lambda: activated([1], base=with_vocabulary(engine())),
        "and no engine is asked": lambda: activated([1], base=with_vocabulary(None)),
        "and no vocabulary is known": lambda: activated([1], base=replace(BASE, served=ACTIVATED)),
        "an embedding": lambda: activated([1], embedding_pair()),
        "the head": lambda: activated([1], {**pair(), **head_pair()}),
        "experts": lambda: activated([1], expert_pairs()),
    },
    "bdlora_unsupported": {"": lambda: configured(use_bdlora={"nblocks": 2})},
    "qalora_unsupported": {"": lambda: configured(use_qalora=True)},
    "arrow_unsupported": {"": lambda: configured(arrow_config={"top_k": 3})},
    "kasa_unsupported": {"": lambda: configured(kasa_config={"beta": 1})},
    "monteclora_unsupported": {"": lambda: configured(monteclora_config={"num_samples": 8})},
    "velora_unsupported": {"": lambda: configured(velora_config={"scale": 1})},
    "trainable_tokens_unsupported": {"": lambda: configured(trainable_token_indices=[1, 2])},
    "init_lora_weights_unsupported": {
        "PiSSA": lambda: configured(init_lora_weights="pissa_niter_4"),
        "OLoRA": lambda: configured(init_lora_weights="olora"),
        "LoftQ": lambda: configured(init_lora_weights="LoftQ"),
    },
    "embedding_unsupported": {
        "an embedding, and no engine is asked": lambda: Draft(
            base=HEADERS_ALONE, tensors=embedding_pair()
        ),
        "a head, and no engine is asked": lambda: Draft(base=HEADERS_ALONE, tensors=head_pair()),
        "of a base whose embedding takes none": lambda: Draft(
            base=LINEAR_ENGINE, tensors=embedding_pair()
        ),
        "of a base whose head takes none": lambda: Draft(base=LINEAR_ENGINE, tensors=head_pair()),
        "a linear pair for an embedding": lambda: weighing(pair(EMBEDDING)),
        "an embedding's pair for a linear layer": lambda: weighing(
            {name.replace(EMBEDDING, MODULE): tensor for name, tensor in embedding_pair().items()}
        ),
    },
    "embedding_saved": {
        "the embedding": lambda: weighing(
            {**pair(), f"base_model.model.{EMBEDDING}.weight": matrix(TOKENS, IN)}
        ),
        "the head": lambda: weighing(
            {**pair(), f"base_model.model.{HEAD}.weight": matrix(TOKENS, IN)}
        ),
    },
    "base_weights_changed": {
        "nothing to compare with": lambda: weighing(
            {**head_pair(), repeated(HEAD): matrix(TOKENS, IN)}
        ),
    },
    "experts_unsupported": {
        "some of them": lambda: weighing(
            {**pair(), **{n: t for n, t in expert_pairs().items() if ".experts.1.w3" not in n}}
        ),
        "of different ranks": lambda: Draft(
            config={**Draft().config, "rank_pattern": {"experts.1.w2": 8}},
            tensors={**expert_pairs(), **pair(EXPERTS[4], rank=8)},
        ),
        "all in one parameter": lambda: weighing(pair(MIXTURE)),
        "two parameters of one module": lambda: with_mixture(BASE),
        "two parameters, and no engine is asked": lambda: with_mixture(HEADERS_ALONE),
        "one of two parameters": lambda: Draft(
            base=BOTH_FORMS,
            tensors={n: t for n, t in mixture_pairs().items() if "base_layer" not in n},
        ),
    },
    "weights_missing": {
        "none": lambda: weights_file(None),
        "under another name": lambda: Draft(
            files={"adapter_model.safetensors": None, "model.safetensors": b""}
        ),
    },
    "pickle_weights": {
        "": lambda: Draft(files={"adapter_model.safetensors": None, "adapter_model.bin": b"x"}),
    },
    "lfs_pointer": {
        "the weights": lambda: weights_file(LFS_POINTER),
        "the configuration": lambda: config_text(LFS_POINTER),
    },
    "mlx_adapter": {"by its configuration": lambda: config_text('{"fine_tune_type": "lora"}')},
    "header_invalid": {
        "an empty file": lambda: weights_file(b""),
        "longer than the file": lambda: weights_file(struct.pack("<Q", 2**40) + b"{}"),
        "no JSON": lambda: weights_file(raw_weights(b"{]")),
        "a name that is no text": lambda: weights_file(
            raw_weights(b'{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
        ),
    },
    "tensor_out_of_bounds": {
        "cut off": lambda: weights_file(
            raw_weights(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(7))
        ),
    },
    "dtype_unsupported": {
        "a head of integers": lambda: with_head(weight=matrix(LABELS, IN).astype("i4")),
        "truths": lambda: weighing({k: v.astype("?") for k, v in pair().items()}),
        "integers": lambda: weighing({k: v.astype("i4") for k, v in pair().items()}),
        "unknown": lambda: weights_file(
            raw_weights(b'{"a":{"dtype":"F3","shape":[0],"data_offsets":[0,0]}}')
        ),
    },
    "no_modules": {
        "": lambda: weighing({}),
        "but the base model's own weights": lambda: weighing({repeated(HEAD): matrix(TOKENS, IN)}),
    },
    "unpaired_tensor": {
        "A without B": lambda: weighing({key(MODULE, "A"): matrix(RANK, IN)}),
        "a head of bias alone": lambda: Draft(
            base=CLASSIFIER,
            config=with_head().config,
            tensors={**pair(), "base_model.model.score.bias": matrix(LABELS)},
        ),
        "B without A": lambda: weighing({**pair(), key(OTHER, "B"): matrix(OUT, RANK)}),
    },
    "unknown_tensor": {
        "DoRA's magnitude": lambda: weighing(
            {**pair(), f"base_model.model.{MODULE}.lora_magnitude_vector": matrix(OUT)}
        ),
        "a bias": lambda: weighing({**pair(), f"base_model.model.{MODULE}.bias": matrix(OUT)}),
        "a head that the configuration does not name": lambda: Draft(
            base=CLASSIFIER, tensors={**pair(), **whole("score")}
        ),
        "without PEFT's prefix": lambda: weighing({f"{MODULE}.lora_A.weight": matrix(RANK, IN)}),
        "a nameless one": lambda: weighing({"": matrix(1)}),
        "an adapter's name inside": lambda: weighing(
            {f"base_model.model.{MODULE}.lora_A.default.weight": matrix(RANK, IN)}
        ),
    },
    "diffusion_adapter": {tool: partial(saved_as, *forms) for tool, forms in DIFFUSION.items()},
    "wrapped_names": {what: partial(wrapped_in, form) for what, form in WRAPPED.items()},
    "empty_tensor": {
        "one half": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, 0)}),
        "all of it, as ZeRO-3 leaves it": lambda: weighing(
            {key(MODULE, which): np.zeros(0, np.float32) for which in "AB"}
        ),
    },
    "unknown_module": {
        "a layer too deep": lambda: weighing({**pair(), **pair("model.layers.99.q_proj")}),
        "of another family": lambda: weighing(pair("transformer.h.0.attn.c_attn")),
        "and no engine is asked": lambda: Draft(
            base=HEADERS_ALONE, tensors=pair("model.layers.99.q_proj")
        ),
    },
    "module_not_served": {"": lambda: weighing({**pair(), **pair(ROUTER)})},
    "duplicate_module": {
        "two names for one": lambda: weighing(
            {**pair(), **pair(MODULE.replace(".0.", ".0.first."))}
        ),
        "two pairs under one name": lambda: weighing({**pair(EMBEDDING), **embedding_pair()}),
    },
    "rank_mismatch": {
        "smaller than r": lambda: weighing(pair(rank=2)),
        "larger than r": lambda: weighing(pair(rank=8)),
        "in one module only": lambda: weighing({**pair(), **pair(OTHER, rank=8)}),
        "in one half only": lambda: weighing({**pair(), key(MODULE, "B"): matrix(OUT, 8)}),
        "of the experts": lambda: Draft(
            base=BOTH_FORMS, config=configured(r=8).config, tensors=mixture_pairs()
        ),
        "in the configuration": lambda: configured(r=8),
        "in the pattern": lambda: configured(rank_pattern={"q_proj": 8}),
    },
    "shape_mismatch": {
        "too few inputs": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, IN - 1)}),
        "too many inputs": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, IN + 1)}),
        "too few outputs": lambda: weighing({**pair(), key(MODULE, "B"): matrix(OUT - 1, RANK)}),
        "too many outputs": lambda: weighing({**pair(), key(MODULE, "B"): matrix(OUT + 1, RANK)}),
        "transposed": lambda: weighing(
            {key(MODULE, "A"): matrix(RANK, OUT), key(MODULE, "B"): matrix(IN, RANK)}
        ),
        "no matrix": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, IN, 1)}),
        "a head of another width": lambda: with_head(weight=matrix(LABELS, IN + 1)),
        "a head that is no matrix": lambda: with_head(weight=matrix(LABELS)),
        "a head of more labels": lambda: with_head(labels=LABELS + 1),
        "a head's bias for other labels": lambda: with_head(bias=matrix(LABELS + 1)),
        "experts of another width": lambda: Draft(
            base=BOTH_FORMS,
            tensors={**mixture_pairs(), key(MIXTURE, "A"): matrix(2 * RANK, OUT + 1)},
        ),
        "the two parameters of experts the other way round": lambda: Draft(
            base=BOTH_FORMS,
            tensors={
                n.replace(".base_layer", "")
                if ".base_layer" in n
                else n.replace(".experts", ".experts.base_layer"): t
                for n, t in mixture_pairs().items()
            },
        ),
        "more tokens": lambda: weighing(embedding_pair(TOKENS + 1)),
        "fewer tokens": lambda: weighing(embedding_pair(TOKENS - 1)),
        "where only the headers know it": lambda: weighing(
            {**expert_pairs(), key(EXPERTS[0], "B"): matrix(OUT + 1, RANK)}
        ),
    },
    "not_finite": {
        "NaN": lambda: holding(np.nan),
        "infinity": lambda: holding(np.inf),
        "minus infinity": lambda: holding(-np.inf),
        "NaN in float16": lambda: holding(np.nan, np.float16),
        "infinity in float16": lambda: holding(np.inf, np.float16),
        "NaN in bfloat16": lambda: bfloat16(0x7FC0),
        "infinity in bfloat16": lambda: bfloat16(0x7F80),
        "minus infinity in bfloat16": lambda: bfloat16(0xFF80),
        "NaN in double precision": lambda: holding(np.nan, np.float64),
        "infinity in float8": lambda: float8("F8_E5M2", 0xFC),
        "NaN in float8": lambda: float8("F8_E5M2", 0x7D),
        "NaN in the other float8": lambda: float8("F8_E4M3", 0xFF),
    },
    "no_effect": {
        "B is zero, as before training": lambda: weighing(
            {**pair(), key(MODULE, "B"): np.zeros((OUT, RANK), np.float32)}
        ),
        "A is zero": lambda: weighing({**pair(), key(MODULE, "A"): -np.zeros((RANK, IN))}),
        "zero in bfloat16": lambda: by_bits("BF16", 0x8000, usual=0),
        "alpha is zero": lambda: configured(lora_alpha=0),
        "alpha is zero in the pattern": lambda: configured(alpha_pattern={"q_proj": 0}),
        "one half here, one half there": lambda: weighing(
            {
                **pair(),
                **pair(OTHER),
                key(MODULE, "B"): np.zeros((OUT, RANK), np.float32),
                key(OTHER, "A"): np.zeros((RANK, IN), np.float32),
            }
        ),
    },
}
# found while the files are fetched: test_artifacts, test_archive_source
ELSEWHERE = {"unsafe_file", "unreadable_file", "unsafe_path", "archive_invalid"}
ELSEWHERE |= {"weights_sharded", "whole_model"}  # test_local_folders
ELSEWHERE |= {"new_embeddings", "tokens_beyond_vocabulary"}  # test_training
CASES = [(code, what) for code, drafts in REFUSED.items() for what in drafts]


def refusal(draft: Draft, folder: Path, base: BaseModel | None = None) -> InvalidAdapter:
    with pytest.raises(InvalidAdapter) as caught:
        inspect_adapter(draft.write(folder), base or draft.base, MAX_RANK)
    return caught.value


def finding_of(error: InvalidAdapter) -> Finding:
    return Finding(error.code, error.detail)


def accepted(draft: Draft, folder: Path, base: BaseModel | None = None) -> Inspection:
    return inspect_adapter(draft.write(folder), base or draft.base, MAX_RANK)


@pytest.mark.parametrize(("code", "what"), CASES, ids=[" ".join(case).strip() for case in CASES])
def test_a_defect_is_refused_by_its_code(tmp_path: Path, code: str, what: str) -> None:
    error = refusal(REFUSED[code][what](), tmp_path)
    assert error.code == code, error.detail
    assert error.status == 422
    error.detail.encode()  # it is sent as UTF-8
    assert 10 < len(error.detail) < 500


@pytest.mark.parametrize(("code", "what"), CASES, ids=[" ".join(case).strip() for case in CASES])
def test_a_dry_run_finds_it_too(tmp_path: Path, code: str, what: str) -> None:
    draft = REFUSED[code][what]()
    verdict = judge_adapter(draft.write(tmp_path), draft.base, MAX_RANK)
    assert verdict.inspection is None
    assert code in {problem.code for problem in verdict.problems}
    assert verdict.counts.keys() == {problem.code for problem in verdict.problems}
    assert verdict.problems[0] == finding_of(refusal(draft, tmp_path))


def test_a_dry_run_reports_every_defect_once_and_counts_it(tmp_path: Path) -> None:
    draft = configured(use_dora=True, bias="all", lora_alpha="8")
    draft.tensors = {**pair(rank=2), **pair("x.y"), **pair("x.z"), "odd": matrix(1)}
    draft.tensors[key(MODULE, "A")][0, 0] = np.nan
    verdict = judge_adapter(draft.write(tmp_path), BASE, MAX_RANK)
    assert verdict.counts == {
        "dora_unsupported": 1,
        "bias_unsupported": 1,
        "config_invalid": 1,
        "unknown_tensor": 1,
        "unknown_module": 2,
        "not_finite": 1,
    }
    assert [problem.code for problem in verdict.problems] == list(verdict.counts)
    assert "x.y" in verdict.problems[4].detail


def test_a_dry_run_says_the_same_of_a_good_one(tmp_path: Path) -> None:
    verdict = judge_adapter(Draft().write(tmp_path), BASE, MAX_RANK)
    assert verdict.inspection == inspect_adapter(tmp_path, BASE, MAX_RANK)
    assert not verdict.problems


def test_every_defect_is_found_here_or_while_copying() -> None:
    assert set(REFUSED) | ELSEWHERE == set(Defect)


def test_a_good_adapter_is_described(tmp_path: Path) -> None:
    draft = weighing({**pair(), **pair(OTHER)})
    found = accepted(draft, tmp_path)
    assert found == Inspection(
        rank=RANK,
        alpha=8.0,
        target_modules=("q_proj",),
        dtype="float32",
        size_bytes=sum(file.stat().st_size for file in tmp_path.iterdir()),
        base_model="tiny",
        peft_config=draft.config,
        shapes_checked=True,
        content_digest=content_digest(tmp_path),
        report={
            "shapes_checked": True,
            "files": {file.name: file.stat().st_size for file in tmp_path.iterdir()},
            "engine": "vllm 0.32.0",
            "tensors": 4,
            "modules": 2,
            "ranks": {"4": 2},
            "parameters": 2 * RANK * (IN + OUT),
            "remarks": [],
        },
    )
    json.dumps(found.report)


def test_the_largest_rank_is_still_accepted(tmp_path: Path) -> None:
    draft = configured(r=MAX_RANK)
    draft.tensors = pair(rank=MAX_RANK)
    assert accepted(draft, tmp_path).rank == MAX_RANK


@pytest.mark.parametrize("alpha", [1, 0.5, 1e5, -8])
def test_alpha_may_be_any_number_but_zero(tmp_path: Path, alpha: float) -> None:
    assert accepted(configured(lora_alpha=alpha), tmp_path).alpha == alpha


@pytest.mark.parametrize(
    "fields",
    [
        {"use_rslora": True},
        {"lora_dropout": 0.1},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"layers_to_transform": [0]},
        {"target_modules": ".*q_proj"},
        {"modules_to_save": []},
        {"rank_pattern": {}},
        {"fan_in_fan_out": True},
        {"alpha_pattern": {"nothing": 5}},
        {"rank_pattern": {"q_proj": RANK}},
        {"some_later_field": {"a": [1, {"b": None}]}},
    ],
    ids=str,
)
def test_what_does_not_matter_to_serving_is_accepted(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert accepted(configured(**fields), tmp_path).peft_config.items() >= fields.items()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_number_format_is_reported(tmp_path: Path, dtype: str) -> None:
    draft = weighing({name: tensor.astype(dtype) for name, tensor in pair().items()})
    assert accepted(draft, tmp_path).dtype == dtype


def test_bfloat16_is_reported_and_its_largest_number_is_finite(tmp_path: Path) -> None:
    assert accepted(bfloat16(0x7F7F), tmp_path).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("dtype", "largest", "name"),
    [("F8_E5M2", 0x7B, "float8_e5m2"), ("F8_E4M3", 0x7E, "float8_e4m3fn")],
)
def test_float8_is_reported_and_its_largest_number_is_finite(
    tmp_path: Path, dtype: str, largest: int, name: str
) -> None:
    assert accepted(float8(dtype, largest), tmp_path).dtype == name


def test_different_number_formats_are_reported_as_mixed(tmp_path: Path) -> None:
    tensors = pair()
    tensors[key(MODULE, "B")] = tensors[key(MODULE, "B")].astype(np.float16)
    assert accepted(weighing(tensors), tmp_path).dtype == "mixed"


def test_a_number_behind_the_first_chunk_is_looked_at(tmp_path: Path) -> None:
    wide = 2**21  # 4 rows of it in float16 are four chunks
    base = BaseModel("wide", {MODULE: (OUT, wide)})
    tensors = {
        key(MODULE, "A"): np.ones((RANK, wide), dtype=np.float16),
        key(MODULE, "B"): np.ones((OUT, RANK), dtype=np.float16),
    }
    assert accepted(weighing(tensors), tmp_path, base).rank == RANK
    tensors[key(MODULE, "A")][-1, 5] = np.nan
    assert refusal(weighing(tensors), tmp_path, base).code == "not_finite"


def test_a_pickle_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    assert accepted(Draft(files={"adapter_model.bin": b"x"}), tmp_path).rank == RANK


@pytest.mark.parametrize("name", [None, 5, ["tiny"]])
def test_the_base_model_may_be_unnamed(tmp_path: Path, name: object) -> None:
    assert accepted(configured(base_model_name_or_path=name), tmp_path).base_model is None


def test_the_base_models_name_is_made_fit_for_a_table(tmp_path: Path) -> None:
    found = accepted(configured(base_model_name_or_path="a\0" + "b" * 5000), tmp_path)
    assert found.base_model == "a" + "b" * 1023


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    for tensors in ({"x" * 1000: matrix(1)}, {key("y" * 900, "A"): matrix(RANK, IN)}):
        assert len(refusal(weighing(tensors), tmp_path).detail) < 300


# ---- patterns, embeddings, experts ---------------------------------------------------------


def test_ranks_may_differ_as_the_pattern_says(tmp_path: Path) -> None:
    draft = configured(rank_pattern={r"layers\.1\..*": 8}, alpha_pattern={"q_proj": 32})
    draft.tensors = {**pair(), **pair(OTHER, rank=8)}
    found = accepted(draft, tmp_path)
    assert (found.rank, found.alpha) == (8, 8.0)
    assert found.report["ranks"] == {"4": 1, "8": 1}


def test_embedding_and_head_are_accepted_where_the_engine_serves_them(tmp_path: Path) -> None:
    found = accepted(weighing({**pair(), **embedding_pair(), **head_pair()}), tmp_path)
    assert found.target_modules == ("embed_tokens", "lm_head", "q_proj")
    assert found.shapes_checked is True


def test_experts_are_accepted_together(tmp_path: Path) -> None:
    found = accepted(weighing({**pair(), **expert_pairs()}), tmp_path)
    assert found.shapes_checked is True
    assert found.target_modules == ("q_proj", "w1", "w2", "w3")
    assert remarks(found) == []


def test_experts_are_accepted_as_parameters_where_the_engine_takes_both_forms(
    tmp_path: Path,
) -> None:
    found = accepted(with_mixture(), tmp_path)
    assert found.shapes_checked is True
    assert remarks(found) == []
    found = accepted(with_mixture(gate_up_proj=8, down_proj=2), tmp_path)
    assert found.report["ranks"] == {"2": 1, "4": 1, "8": 1}


def test_a_refusal_of_experts_says_which_argument_would_serve_them(tmp_path: Path) -> None:
    assert "--enable-mixed-moe-lora-format" in refusal(with_mixture(BASE), tmp_path).detail


@pytest.mark.parametrize("labels", [1, LABELS])
def test_a_classification_head_is_accepted_where_the_engine_has_one(
    tmp_path: Path, labels: int
) -> None:
    found = accepted(with_head(labels=labels, bias=matrix(labels)), tmp_path)
    assert found.report["heads"] == ["score"]
    assert found.target_modules == ("q_proj",)
    nothing = with_head()
    nothing.tensors[key(MODULE, "B")] = np.zeros((OUT, RANK), np.float32)
    assert accepted(nothing, tmp_path).report["modules"] == 1  # the head has an effect


def test_a_head_that_was_not_trained_needs_no_tensor(tmp_path: Path) -> None:
    draft = configured(modules_to_save=["classifier", "score"])
    assert "heads" not in accepted(draft, tmp_path).report


def test_an_engine_that_can_not_be_asked_accepts_nothing(tmp_path: Path) -> None:
    blind = replace(BASE, served=replace(SERVED, naming=UnknownNaming()))
    with pytest.raises(EngineAway):
        inspect_adapter(Draft().write(tmp_path), blind, MAX_RANK)


def test_an_activated_adapter_is_described(tmp_path: Path) -> None:
    inspection = inspect_adapter(activated([1, 2]).write(tmp_path), ACTIVATED_BASE, MAX_RANK)
    assert inspection.report["invocation_tokens"] == [1, 2]
    assert inspection.peft_config["alora_invocation_tokens"] == [1, 2]
    other = tmp_path / "plain"
    other.mkdir()
    plain = inspect_adapter(activated(None).write(other), ACTIVATED_BASE, MAX_RANK)
    assert "invocation_tokens" not in plain.report


def test_an_engine_refuses_to_load_what_it_can_not_activate(tmp_path: Path) -> None:
    """It was accepted for another engine."""
    folder = activated([1]).write(tmp_path)
    refusing = with_vocabulary(engine(activated_refusal="two processes"))
    assert find_misfit(folder, ACTIVATED_BASE, MAX_RANK) is None
    problem = find_misfit(folder, refusing, MAX_RANK)
    assert problem is not None
    assert (problem.code, "two processes" in problem.detail) == ("alora_unsupported", True)


def test_that_no_engine_was_asked_is_remarked_on(tmp_path: Path) -> None:
    assert remarks(accepted(Draft(), tmp_path, HEADERS_ALONE)) == ["engine_not_asked"]


def test_a_name_is_read_as_the_engine_reads_it(tmp_path: Path) -> None:
    renamed = pair(MODULE.replace(".0.", ".0.first."))
    assert accepted(weighing(renamed), tmp_path).report["modules"] == 1
    assert refusal(weighing(renamed), tmp_path, HEADERS_ALONE).code == "unknown_module"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embeddings_saved_along_are_accepted_while_they_are_the_base_models(
    tmp_path: Path, dtype: type
) -> None:
    base, own = base_with_embeddings(tmp_path, {EMBEDDING: 1, HEAD: 2})
    tensors = {**head_pair(), **embedding_pair()}
    for module, weights in own.items():
        tensors[repeated(module)] = weights.astype(dtype)
    found = accepted(weighing(tensors), tmp_path, base)
    assert remarks(found) == ["base_weights_repeated", "base_weights_repeated"]
    assert found.report["modules"] == 2
    tensors[repeated(HEAD)][-1, -1] += 1
    assert refusal(weighing(tensors), tmp_path, base).code == "base_weights_changed"
    tensors[repeated(HEAD)] = matrix(TOKENS + 1, IN)
    assert refusal(weighing(tensors), tmp_path, base).code == "base_weights_changed"


def test_a_tied_head_is_compared_with_the_embedding(tmp_path: Path) -> None:
    base, own = base_with_embeddings(tmp_path, {EMBEDDING: 1})
    tensors = {**head_pair(), repeated(HEAD): own[EMBEDDING]}
    assert remarks(accepted(weighing(tensors), tmp_path, base)) == ["base_weights_repeated"]


def test_saved_embeddings_are_refused_without_the_base_models_files(
    tmp_path: Path,
) -> None:
    base, own = base_with_embeddings(tmp_path, {HEAD: 1})
    (tmp_path / "base.safetensors").unlink()
    tensors = {**head_pair(), repeated(HEAD): own[HEAD]}
    assert refusal(weighing(tensors), tmp_path, base).code == "base_weights_changed"


def test_an_unknown_field_is_remarked_on(tmp_path: Path) -> None:
    found = accepted(configured(use_something=True, some_other=None, off=False), tmp_path)
    assert remarks(found) == ["unknown_field"]
    assert "use_something" in found.report["remarks"][0]["detail"]


def test_remarks_are_few_and_short_whatever_the_file_says(tmp_path: Path) -> None:
    found = accepted(configured(**{f"\0{n}{'x' * 500}": 1 for n in range(1000)}), tmp_path)
    assert len(found.report["remarks"]) == 20
    assert all(len(remark["detail"]) < 300 for remark in found.report["remarks"])
    assert "\0" not in str(found.report)


def remarks(found: Inspection) -> list[str]:
    return [remark["code"] for remark in found.report["remarks"]]


def base_with_embeddings(folder: Path, seeds: dict[str, int]) -> tuple[BaseModel, dict[str, Array]]:
    """A base model whose embeddings, in float16, lie in a file."""
    own: dict[str, Array] = {
        module: np.random.default_rng(seed).random((TOKENS, IN)).astype(np.float16)
        for module, seed in seeds.items()
    }
    path = folder / "base.safetensors"
    save_file({f"{module}.weight": weights for module, weights in own.items()}, path)
    stored = {name.removesuffix(".weight"): info for name, info in read_header(path).items()}
    embeddings = {module: StoredTensor(path, info) for module, info in stored.items()}
    return replace(BASE, embeddings=embeddings), own


# ---- the base model ----------------------------------------------------------------------


def test_without_the_base_models_weights_all_but_the_fit_is_checked(tmp_path: Path) -> None:
    anywhere = pair("some.module")
    found = accepted(weighing(anywhere), tmp_path, UNKNOWN_BASE)
    assert found.shapes_checked is False
    assert found.target_modules == ("module",)
    misfit = {**anywhere, key("some.module", "B"): matrix(OUT, 2)}
    assert refusal(weighing(misfit), tmp_path, UNKNOWN_BASE).code == "rank_mismatch"


def test_no_folder_and_no_safetensors_mean_an_unknown_base(tmp_path: Path) -> None:
    assert read_base_model("x", None) == BaseModel("x", None)
    for folder in (tmp_path, tmp_path / "none"):
        expected = BaseModel("x", None, training=BaseTraining(folder))
        assert read_base_model("x", folder) == expected


def test_a_base_model_in_several_files_is_read_as_one(tmp_path: Path) -> None:
    for number, module in enumerate([MODULE, OTHER]):
        tensors = {f"{module}.weight": matrix(OUT, IN), f"{module}.bias": matrix(OUT)}
        save_file(tensors, tmp_path / f"model-0000{number}-of-00002.safetensors")
    assert read_base_model("x", tmp_path).shapes == {MODULE: (OUT, IN), OTHER: (OUT, IN)}


def test_a_broken_base_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InvalidAdapter) as caught:
        read_base_model("x", tmp_path)
    assert caught.value.code == "header_invalid"


@pytest.mark.parametrize(
    "packed",
    [
        {"qweight": np.zeros((2, OUT), np.int32), "scales": matrix(2, OUT)},
        {"weight_packed": np.zeros((OUT, 2), np.int32), "weight_shape": np.zeros(2, np.int64)},
        {"weight": np.zeros((OUT * IN // 2, 1), np.uint8)},
    ],
    ids=["GPTQ and AWQ", "compressed-tensors", "bitsandbytes"],
)
def test_an_adapter_of_a_packed_layer_is_checked_by_name_only(
    tmp_path: Path, packed: dict[str, Array]
) -> None:
    base_folder, folder = tmp_path / "base", tmp_path / "adapter"
    base_folder.mkdir()
    folder.mkdir()
    tensors = {f"{MODULE}.{kind}": tensor for kind, tensor in packed.items()}
    save_file({**tensors, f"{OTHER}.weight": matrix(OUT, IN)}, base_folder / "model.safetensors")
    base = read_base_model("quantized", base_folder)
    assert accepted(Draft(), folder, base).shapes_checked is False
    assert accepted(weighing(pair(OTHER)), folder, base).shapes_checked is True
    assert accepted(weighing({**pair(), **pair(OTHER)}), folder, base).shapes_checked is False
    assert refusal(weighing(pair("other.module")), folder, base).code == "unknown_module"


# ---- the demo ----------------------------------------------------------------------------

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
ALL = ("down_proj", "gate_proj", *ATTENTION, "up_proj")
DEMO_ADAPTERS = {
    "adapters/double": (16, 32, ATTENTION),
    "adapters/reverse": (16, 32, tuple(sorted(ALL))),
    "adapters/rot13": (16, 32, ("down_proj", "gate_proj", "o_proj", "up_proj")),
    "adapters/stars": (8, 16, ("down_proj", "q_proj", "up_proj", "v_proj")),
    "adapters/upper": (4, 8, tuple(sorted(ALL))),
    "adapters/vowels": (8, 16, ATTENTION),
    "adapters-v2/upper": (8, 16, tuple(sorted(ALL))),
}


def test_every_demo_adapter_is_tried() -> None:
    """But the activated ones: only an engine says whether it serves them (test_activated.py)."""
    found = [file.parent for file in DEMO.rglob("adapter_config.json")]
    folders = [folder for folder in found if "adapters-activated" not in folder.parts]
    assert {str(folder.relative_to(DEMO)) for folder in folders} == set(DEMO_ADAPTERS)


@pytest.mark.parametrize("name", DEMO_ADAPTERS)
def test_a_demo_adapter_is_accepted_as_what_it_is(name: str) -> None:
    folder = DEMO / name
    found = inspect_adapter(folder, read_base_model("demo", DEMO / "base"), MAX_RANK)
    assert (found.rank, found.alpha, found.target_modules) == DEMO_ADAPTERS[name]
    assert found.dtype == "float32"
    assert found.base_model == "demo/base"
    assert found.shapes_checked is True
    files = (folder / "adapter_config.json", folder / "adapter_model.safetensors")
    assert found.size_bytes == sum(file.stat().st_size for file in files)
    assert found.peft_config == json.loads(files[0].read_text())


def test_a_demo_adapter_of_a_larger_rank_than_served_is_refused() -> None:
    base = read_base_model("demo", DEMO / "base")
    with pytest.raises(InvalidAdapter) as caught:
        inspect_adapter(DEMO / "adapters" / "reverse", base, max_rank=8)
    assert caught.value.code == "rank_too_large"
