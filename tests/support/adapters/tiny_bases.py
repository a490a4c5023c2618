"""Tiny base models of many architectures, of random weights, with the demo's tokenizer."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

DEMO_BASE = Path(__file__).resolve().parents[3] / "demo" / "base"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
LABELS = 3

_SIZES: Mapping[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.1,
}


@dataclass(frozen=True)
class TinyBase:
    """`title`: for a table. `engine`: arguments for vLLM; `fields`: more of the configuration.

    `names`: of its modules, where they are not called as in Llama.
    """

    title: str
    model: str
    config: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        torch.manual_seed(1)
        config = getattr(transformers, self.config)(**{**_SIZES, **self.fields})
        getattr(transformers, self.model)(config).save_pretrained(folder)
        for file in TOKENIZER_FILES:
            shutil.copy(DEMO_BASE / file, folder)
        return folder


_EMBEDS = {"runner": "pooling", "convert": "embed"}
_CLASSIFIES = {"runner": "pooling", "convert": "classify"}
_LABELS = {"num_labels": LABELS}

BASES: Mapping[str, TinyBase] = {
    "llama": TinyBase("Llama", "LlamaForCausalLM", "LlamaConfig"),
    "mistral": TinyBase("Mistral", "MistralForCausalLM", "MistralConfig"),
    "qwen2": TinyBase(
        "Qwen2, tied", "Qwen2ForCausalLM", "Qwen2Config", fields={"tie_word_embeddings": True}
    ),
    "qwen3": TinyBase("Qwen3", "Qwen3ForCausalLM", "Qwen3Config"),
    "phi3": TinyBase(
        "Phi-3, tied",
        "Phi3ForCausalLM",
        "Phi3Config",
        fields={"tie_word_embeddings": True},
        names={"q_proj": "qkv_proj", "v_proj": "qkv_proj"},
    ),
    "gemma3": TinyBase(
        "Gemma 3",
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        fields={"query_pre_attn_scalar": 32, "sliding_window": 32},
    ),
    "olmo2": TinyBase(
        "OLMo 2 (Transformers backend)",
        "Olmo2ForCausalLM",
        "Olmo2Config",
        {"model_impl": "transformers"},
    ),
    "olmo2-narrow": TinyBase(
        "OLMo 2, `--lora-target-modules q_proj`",
        "Olmo2ForCausalLM",
        "Olmo2Config",
        {"model_impl": "transformers", "lora_target_modules": ["q_proj"]},
    ),
    "qwen3-embed": TinyBase("Qwen3 embedding", "Qwen3Model", "Qwen3Config", _EMBEDS),
    "llama-embed": TinyBase("Llama embedding", "LlamaModel", "LlamaConfig", _EMBEDS),
    "qwen3-classify": TinyBase(
        "Qwen3 classifier",
        "Qwen3ForSequenceClassification",
        "Qwen3Config",
        _CLASSIFIES,
        _LABELS,
    ),
    "llama-classify": TinyBase(
        "Llama classifier",
        "LlamaForSequenceClassification",
        "LlamaConfig",
        _CLASSIFIES,
        _LABELS,
    ),
    "llama-reward": TinyBase(
        "Llama reward model",
        "LlamaForSequenceClassification",
        "LlamaConfig",
        _CLASSIFIES,
        {"num_labels": 1},
    ),
}
