"""Layer aliases: whoever holds a layer that adapters apply to holds its wrapper."""

import pytest
from torch import nn

from engine.worker import layer_aliases
from engine.worker.layer_aliases import rewire_aliases


class Layer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """In place of vLLM's, which needs an engine's configuration."""


class Wrapper(nn.Module):  # type: ignore[misc]
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer


def holding(**modules: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, module in modules.items():
        made.add_module(name, module)
    return made


def test_a_layer_under_several_names_is_reached_by_its_wrapper_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layer_aliases, "LinearBase", Layer)
    router, other, experts = Layer(), Layer(), nn.Module()
    wrapper, of_experts = Wrapper(router), Wrapper(experts)
    experts.add_module("gate", router)
    experts.add_module("router", router)
    model = holding(
        gate=wrapper, experts=of_experts, other=other, listed=nn.ModuleList([other, router])
    )
    rewire_aliases(model, [wrapper, of_experts])
    assert experts.gate is wrapper
    assert experts.router is wrapper
    assert list(model.get_submodule("listed").children()) == [other, wrapper]
    assert wrapper.base_layer is router, "else it would call itself"
    assert of_experts.base_layer is experts, "no linear layer"
    assert model.get_submodule("other") is other
