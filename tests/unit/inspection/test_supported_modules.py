"""Names of modules as the engine reads them."""

from registry.inspection.supported_modules import (
    Renames,
    SupportedModule,
    SupportedModules,
    experts_of,
)

SHAPE = (6, 10)


def served(renames: Renames, *names: str) -> SupportedModules:
    return SupportedModules("vllm 0", {name: SupportedModule(SHAPE) for name in names}, renames)


def test_without_rules_a_name_is_itself() -> None:
    found = served(Renames(), "model.layers.0.q_proj")
    assert found.find("model.layers.0.q_proj") == SupportedModule(SHAPE)
    assert found.find("layers.0.q_proj") is None
    assert found.find("") is None


def test_the_prefixes_of_a_model_with_a_language_part() -> None:
    """As those of Qwen2.5-VL in vLLM 0.32: one after the other, on what the last one left."""
    rules = Renames(
        prefixes=(
            ("model.language_model.", "language_model.model."),
            ("model.visual.", "visual."),
            ("lm_head.", "language_model.lm_head."),
            ("model.", "language_model.model."),
        )
    )
    found = served(rules, "language_model.model.layers.0.q_proj", "language_model.lm_head")
    for name in ("model.language_model.layers.0.q_proj", "model.layers.0.q_proj", "lm_head"):
        assert found.find(name), name
    assert found.name_of("model.visual.blocks.0") == "visual.blocks.0"


def test_the_parts_of_an_expert() -> None:
    """As those of Mixtral in vLLM 0.32."""
    rules = Renames(substrings=((".gate_proj.", ".w1."), (".up_proj.", ".w3.")))
    found = served(rules, "model.layers.0.block_sparse_moe.experts.7.w1")
    assert found.find("model.layers.0.block_sparse_moe.experts.7.gate_proj")


def test_regular_expressions_come_first_and_suffixes_last() -> None:
    rules = Renames(
        regexes=((r"h\.(\d+)\.", r"layers.\1."),),
        substrings=((".layers.", ".blocks."),),
        suffixes=((".lora_A.weight", ".a"),),
    )
    assert rules.apply("x.h.12.q.lora_A.weight") == "x.blocks.12.q.a"


def test_a_group_of_experts_is_everything_before_their_numbers() -> None:
    assert experts_of("model.layers.0.mlp.experts.3.up_proj") == "model.layers.0.mlp.experts"
    assert experts_of("model.layers.0.mlp.experts") is None
    assert experts_of("model.layers.0.mlp.shared_expert.up_proj") is None
    names = [f"m.experts.{n}.w{m}" for n in range(2) for m in (1, 2)]
    assert served(Renames(), "q", *names).experts == {"m.experts": frozenset(names)}
