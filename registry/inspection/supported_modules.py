"""Supported modules: where the running engine applies adapters, by its own account.

The engine provides them at startup. This module does not depend on the engine's library.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

Shape = tuple[int, int]

_LINEAR_TENSOR = ".lora_A.weight"
_EXPERTS = ".experts"


@dataclass(frozen=True, slots=True)
class SupportedModule:
    """`shape`: (out_features, in_features), of an embedding (width, tokens); None if unknown."""

    shape: Shape | None
    is_embedding: bool = False


@dataclass(frozen=True, slots=True)
class Renames:
    """How the engine rewrites an adapter's tensor names, in this order; the first hit of each."""

    regexes: tuple[tuple[str, str], ...] = ()
    substrings: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()
    suffixes: tuple[tuple[str, str], ...] = ()

    def apply(self, name: str) -> str:
        for pattern, new in self.regexes:
            name = re.sub(pattern, new, name)
        for old, new in self.substrings:
            name = name.replace(old, new, 1)
        for old, new in self.prefixes:
            if name.startswith(old):
                name = new + name.removeprefix(old)
        for old, new in self.suffixes:
            if name.endswith(old):
                name = name.removesuffix(old) + new
        return name


@dataclass(frozen=True)
class SupportedModules:
    """`modules` by the engine's names. `patterns`: it supports rank_pattern and alpha_pattern."""

    engine: str  # such as "vllm 0.32.0"
    modules: Mapping[str, SupportedModule]
    renames: Renames = field(default_factory=Renames)
    patterns: bool = True

    def name_of(self, module: str) -> str:
        """The engine's name for what the adapter calls `module`."""
        return self.renames.apply(module + _LINEAR_TENSOR).removesuffix(_LINEAR_TENSOR)

    def find(self, module: str) -> SupportedModule | None:
        """None: the engine would refuse `module`, or silently ignore it."""
        return self.modules.get(self.name_of(module))

    @cached_property
    def experts(self) -> Mapping[str, frozenset[str]]:
        """The engine's names of all experts' matrices by the module that holds them."""
        groups: dict[str, set[str]] = {}
        for name in self.modules:
            group = experts_of(name)
            if group is not None:
                groups.setdefault(group, set()).add(name)
        return {group: frozenset(names) for group, names in groups.items()}


def experts_of(name: str) -> str | None:
    """The mixture of experts that a matrix belongs to, as `model.layers.0.mlp.experts`."""
    before, found, after = name.partition(f"{_EXPERTS}.")
    return before + _EXPERTS if found and after else None
