"""Adapters for the experts of a mixture, as PEFT saves them: one pair for each parameter of all.

vLLM's CPU build starts with such a model but can't compute it while adapters are on, whichever they
are, so there is no answer to compare; `tests/gpu/test_expert_answers.py` does so on a GPU. Compared
here is what a slot holds: for each expert, PEFT's change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from benchmarks.right.expert_pairs import split_experts
from registry.errors import InvalidAdapter
from tests.support.adapters.peft_kinds import Kind, load_base, lora
from tests.support.adapters.tiny_bases import TinyBase
from tests.support.vllm.tiny_engines import OfflineBase, offline_base

pytestmark = [pytest.mark.engine]

EXPERTS = 4
MIXTURE = TinyBase(
    "Qwen3, a mixture of experts",
    "Qwen3MoeForCausalLM",
    "Qwen3MoeConfig",
    fields={"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
)
BOTH_FORMS = {"enable_mixed_moe_lora_format": True}
PARAMETERS = ("gate_up_proj", "down_proj")

Changes = Mapping[str, torch.Tensor]


def for_all_linear_layers() -> Kind:
    """PEFT adds the experts' parameters by itself."""
    return lora(target_modules="all-linear")


def for_parameters(**fields: Any) -> Kind:
    parameters = [f"mlp.experts.{name}" for name in PARAMETERS]
    return lora(target_modules=["q_proj"], target_parameters=parameters, **fields)


def with_patterns() -> Kind:
    ranks, alphas = {"experts.gate_up_proj": 2}, {"experts.down_proj": 4}
    return for_parameters(rank_pattern=ranks, alpha_pattern=alphas)


def changes_of_peft(base_folder: Path, adapter: Path) -> Changes:
    """Of each expert's matrices, by what PEFT merges into the base model."""
    base = load_base(base_folder)
    merged = PeftModel.from_pretrained(load_base(base_folder), adapter).merge_and_unload()
    return {
        f"{number}.{name}": getattr(after.mlp.experts, name) - getattr(before.mlp.experts, name)
        for number, (before, after) in enumerate(
            zip(base.model.layers, merged.model.layers, strict=True)
        )
        for name in PARAMETERS
    }


def changes_in_slot(engine: OfflineBase, adapter: Path) -> Changes:
    """B times A, of what vLLM's layers hold for it."""
    number = engine.llm._handle(str(adapter)).lora_int_id
    (changes,) = engine.llm.collective_rpc(_changes, args=(number,))
    return {name: torch.tensor(values) for name, values in changes.items()}


def _changes(worker: Any, number: int) -> dict[str, Any]:
    from vllm.lora.layers import FusedMoEWithLoRA

    tiers = worker.model_runner.lora_manager._adapter_manager
    slot = tiers.lora_index_to_id.index(number)
    found = {}
    for name, module in tiers.modules.items():
        if isinstance(module, FusedMoEWithLoRA):
            number = name.split(".")[2]
            first = zip(module.w13_lora_b_stacked, module.w13_lora_a_stacked, strict=True)
            halves = [b[slot] @ a[slot] for b, a in first]
            second = module.w2_lora_b_stacked[0][slot] @ module.w2_lora_a_stacked[0][slot]
            found[f"{number}.gate_up_proj"] = torch.cat(halves, dim=1).tolist()
            found[f"{number}.down_proj"] = second.tolist()
            assert module.adapter_enabled[slot] or not second.any()
    return found


def layers_past_their_wrappers(engine: OfflineBase) -> list[str]:
    """Where a layer that an adapter applies to would be computed without it."""
    (found,) = engine.llm.collective_rpc(_unwrapped)
    return list(found)


def _unwrapped(worker: Any) -> list[str]:
    from vllm.lora.layers import BaseLayerWithLoRA
    from vllm.model_executor.layers.linear import LinearBase

    tiers = worker.model_runner.lora_manager._adapter_manager
    wrapped = {id(module.base_layer) for module in tiers.modules.values()}
    return [
        f"{holder}.{name}"
        for holder, module in tiers.model.named_modules()
        if not isinstance(module, BaseLayerWithLoRA)
        for name, held in module.named_children()
        if isinstance(held, LinearBase) and id(held) in wrapped
    ]


def equal(found: Changes, right: Changes) -> bool:
    assert found.keys() == right.keys()
    return all(torch.allclose(found[name], right[name], atol=1e-4) for name in right)


def test_a_slot_holds_for_each_expert_what_peft_adds_to_it(tmp_path: Path) -> None:
    folder = MIXTURE.save(tmp_path / "base")
    kinds = {
        "all": for_all_linear_layers,
        "parameters": for_parameters,
        "patterns": with_patterns,
        "no expert": lora,
    }
    adapters = {name: make().save(folder, tmp_path / name) for name, make in kinds.items()}
    right = {name: changes_of_peft(folder, adapter) for name, adapter in adapters.items()}
    one_by_one = split_experts(adapters["parameters"], tmp_path / "one by one", EXPERTS)
    adapters["one by one"], right["one by one"] = one_by_one, right["parameters"]
    with offline_base(folder, BOTH_FORMS) as engine:  # of two slots: the others reuse them
        assert layers_past_their_wrappers(engine) == []  # such as the router within the mixture
        for name, adapter in adapters.items():
            engine.llm.pin(str(adapter))
            assert equal(changes_in_slot(engine, adapter), right[name]), name
            engine.llm.unpin(str(adapter))
        with pytest.raises(AttributeError, match="triton"):  # then pages and remarks are outdated
            engine.answer(None)


def test_without_the_mixed_format_they_are_refused_as_by_vllm(tmp_path: Path) -> None:
    folder = MIXTURE.save(tmp_path / "base")
    adapter = for_all_linear_layers().save(folder, tmp_path / "all")
    with offline_base(folder, {}) as engine:
        with pytest.raises(InvalidAdapter) as refused:
            engine.llm.pin(str(adapter))
        assert refused.value.code == "experts_unsupported"
        assert "--enable-mixed-moe-lora-format" in refused.value.detail
        assert isinstance(engine.stock(adapter), str)  # its error


def test_the_transformers_backend_computes_no_mixture_either(tmp_path: Path) -> None:
    folder = MIXTURE.save(tmp_path / "base")
    arguments = {"model_impl": "transformers"}
    with offline_base(folder, arguments) as engine, pytest.raises(AttributeError, match="triton"):
        engine.answer(None)
