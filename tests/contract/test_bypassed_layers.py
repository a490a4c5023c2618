"""Layers that are computed past an adapter: refused, as vLLM would answer without it.

A latent attention, as DeepSeek's, decodes with what was made of a layer's weight before.
"""

from pathlib import Path

import pytest

from registry.errors import InvalidAdapter
from tests.support.adapters.peft_kinds import lora
from tests.support.adapters.tiny_bases import TinyBase
from tests.support.vllm.tiny_engines import offline_base

pytestmark = [pytest.mark.engine]

LATENT = TinyBase(
    "DeepSeek-V2, without experts",
    "DeepseekV2ForCausalLM",
    "DeepseekV2Config",
    fields={
        "num_key_value_heads": 4,
        "first_k_dense_replace": 2,
        "q_lora_rank": None,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "head_dim": 64,
    },
)


def test_a_layer_of_latent_attention_that_is_never_called_is_refused(tmp_path: Path) -> None:
    folder = LATENT.save(tmp_path / "base")
    served = lora(target_modules=["q_proj", "o_proj"]).save(folder, tmp_path / "served")
    ignored = lora(target_modules=["kv_b_proj"]).save(folder, tmp_path / "ignored")
    with offline_base(folder, {}) as engine:
        base, answer = engine.answer(None), engine.answer(str(served))
        assert not answer.equals(base)
        assert answer == engine.stock(served)
        with pytest.raises(InvalidAdapter) as refused:
            engine.llm.pin(str(ignored))
        assert refused.value.code == "module_not_served"
        assert "kv_b_proj" in refused.value.detail
        assert engine.stock(ignored) == base, "then vLLM applies it, and it may be served"
