"""Layer aliases: whoever holds a layer that adapters apply to holds its wrapper."""

import pytest
from torch import nn

from engine.worker import layer_aliases
from engine.worker.layer_aliases import find_bypassed, rewire_aliases


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


class Mixture(nn.Module):  # type: ignore[misc]
    """As vLLM's `MoERunner` with ROCm's fused shared experts, or without them."""

    def __init__(self, gate: nn.Module, shared: nn.Module | None) -> None:
        super().__init__()
        self.gate, self.shared_expert_gate = gate, shared
        self._fse_fuse_gate = shared is not None


class LatentAttention(nn.Module):  # type: ignore[misc]
    """As vLLM's `MLAAttention`: its implementation, no module, got the layer before the wrapper."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.kv_lora_rank, self.impl, self.kv_b_proj = 8, object(), layer


def test_layers_whose_weights_alone_are_read_are_bypassed() -> None:
    called, gate, shared, latent = (Wrapper(Layer()) for _ in range(4))
    unwrapped = Layer()
    model = holding(
        plain=Mixture(called, None),
        fused=Mixture(gate, shared),
        attention=LatentAttention(latent),
        other=LatentAttention(unwrapped),
    )
    found = find_bypassed(model)
    assert {id(gate), id(shared), id(latent), id(latent.base_layer), id(unwrapped)} <= found
    assert not {id(called), id(called.base_layer)} & found


def test_of_two_wrappers_of_a_layer_the_first_is_where_adapters_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layer_aliases, "LinearBase", Layer)
    layer = Layer()
    first, second, holder = Wrapper(layer), Wrapper(layer), holding(gate=layer)
    rewire_aliases(holding(first=first, second=second, holder=holder), [first, second])
    assert holder.gate is first
