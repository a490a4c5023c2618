"""What an inspection asks the engine, and what it makes of the answer."""

import pytest

from registry.errors import EngineAway
from registry.inspection.supported_modules import (
    SupportedModule,
    SupportedModules,
    UnknownNaming,
    experts_of,
)
from tests.support.adapters.fake_naming import FakeNaming

SHAPE = (6, 10)
LAYER = "model.layers.0.q_proj"


def served(*names: str) -> SupportedModules:
    return SupportedModules(
        "vllm 0", {name: SupportedModule(SHAPE) for name in names}, FakeNaming(names)
    )


def tensor(module: str) -> str:
    return f"base_model.model.{module}.lora_A.weight"


def test_only_what_the_engine_applies_has_a_place() -> None:
    asked = [tensor(LAYER), tensor("layers.0.q_proj"), tensor("lm_head")]
    assert served(LAYER, "lm_head").places(asked) == {
        tensor(LAYER): LAYER,
        tensor("lm_head"): "lm_head",
    }


def test_what_the_engine_does_not_say_does_not_fit() -> None:
    blind = SupportedModules("vllm 0", {LAYER: SupportedModule(SHAPE)}, UnknownNaming())
    with pytest.raises(EngineAway):
        blind.places([tensor(LAYER)])


def test_the_engine_is_asked_for_no_more_names_than_it_has_modules_for() -> None:
    modules = served(LAYER, "lm_head")
    assert modules.places(tensor(f"{n}") for n in range(10_000)) == {}
    naming = modules.naming
    assert isinstance(naming, FakeNaming)
    assert [len(names) for names in naming.asked] == [3]


@pytest.mark.parametrize("name", ["model." + "a." * 40 + "lm_head", "x" * 10_000])
def test_the_engine_sees_no_name_that_its_rules_would_take_long_for(name: str) -> None:
    """The Transformers backend's `^model\\.(.+\\.)*(lm_head.+)` takes 2^40 steps for the first."""
    modules = served(LAYER)
    assert modules.places([tensor(name), tensor(LAYER)]) == {tensor(LAYER): LAYER}
    naming = modules.naming
    assert isinstance(naming, FakeNaming)
    assert naming.asked == [(tensor(LAYER),)]


def test_a_group_of_experts_is_everything_before_their_numbers() -> None:
    assert experts_of("model.layers.0.mlp.experts.3.up_proj") == "model.layers.0.mlp.experts"
    assert experts_of("model.layers.0.mlp.experts") == "model.layers.0.mlp.experts"
    assert experts_of("model.layers.0.mlp.experts.base_layer") == "model.layers.0.mlp.experts"
    assert experts_of("model.layers.0.mlp.shared_expert.up_proj") is None
    assert experts_of("model.layers.0.mlp.expertsy") is None


def test_the_parameters_of_a_mixture_are_a_group_of_their_own() -> None:
    single = [f"m.experts.{n}.w{m}" for n in range(2) for m in (1, 2)]
    whole = ["m.experts", "m.experts.base_layer"]
    modules = {name: SupportedModule(None) for name in ("q", *single)}
    modules |= {name: SupportedModule(None, experts=2) for name in whole}
    both = SupportedModules("vllm 0", modules, UnknownNaming())
    assert both.experts == {
        ("m.experts", False): frozenset(single),
        ("m.experts", True): frozenset(whole),
    }
