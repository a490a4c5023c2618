"""Supported modules: where the running engine applies adapters, by its own account.

What it calls an adapter's modules is asked of the engine for each adapter: its naming rules are not
copied here. This module does not depend on the engine's library.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

from registry.errors import EngineAway

Shape = tuple[int, int]

_EXPERTS = ".experts"
# An engine's rules are regular expressions, some of which take exponential time on names of many
# parts, between two of its steps. So only names that a module of it may have are shown to it.
_MORE_PARTS = 3
_MORE_LETTERS = 64


class Naming(Protocol):
    """The engine's naming rules. Called from a thread of an inspection."""

    def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """For each tensor of one adapter the engine's name of the module that it is applied to.

        None: the engine would refuse it, or silently ignore it. Raises EngineAway.
        """


class UnknownNaming:
    """Null object: of an engine that can't be asked. "Don't know" is never "fits"."""

    def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        raise EngineAway("the engine can't be asked which modules it applies adapters to")


@dataclass(frozen=True, slots=True)
class SupportedModule:
    """`shape`: (out_features, in_features), of an embedding (width, tokens); None if unknown.

    `experts`: how many a tensor holds, if it is that of a whole mixture.
    """

    shape: Shape | None
    is_embedding: bool = False
    experts: int | None = None


@dataclass(frozen=True, slots=True)
class ClassificationHead:
    """The head that an adapter may replace. `most_labels`: more of them have no room in a slot."""

    name: str
    most_labels: int
    width: int


@dataclass(frozen=True)
class SupportedModules:
    """`modules` by the engine's names. `patterns`: it supports rank_pattern and alpha_pattern.

    `activated_refusal`: why it can't serve activated adapters; None if it serves them.
    """

    engine: str  # such as "vllm 0.32.0"
    modules: Mapping[str, SupportedModule]
    naming: Naming
    patterns: bool = True
    head: ClassificationHead | None = None
    activated_refusal: str | None = "it was not asked"

    def places(self, tensors: Iterable[str]) -> dict[str, str]:
        """The engine's name of the module of each of these tensors that it applies.

        Raises EngineAway.
        """
        # with more pairs than there are modules some have no place, whichever they are
        names = list(islice(tensors, len(self.modules) + 1))
        asked = [name for name in names if self._may_be_known(name)]
        if not asked:
            return {}
        answers = zip(asked, self.naming.places(asked), strict=True)
        return {name: place for name, place in answers if place is not None}

    def _may_be_known(self, tensor: str) -> bool:
        parts, letters = self._longest
        return tensor.count(".") <= parts and len(tensor) <= letters

    @cached_property
    def _longest(self) -> tuple[int, int]:
        """Dots and letters of the longest tensor's name to ask for."""
        prefix, suffix = "base_model.model.", ".lora_embedding_A.weight"
        most = max((name.count(".") for name in self.modules), default=0)
        longest = max(map(len, self.modules), default=0)
        edges = prefix + suffix
        return most + edges.count(".") + _MORE_PARTS, longest + len(edges) + _MORE_LETTERS

    @cached_property
    def experts(self) -> Mapping[tuple[str, bool], frozenset[str]]:
        """The engine's names of all matrices of a mixture's experts, by `group_of`."""
        groups: dict[tuple[str, bool], set[str]] = {}
        for name in self.modules:
            group = self.group_of(name)
            if group is not None:
                groups.setdefault(group, set()).add(name)
        return {group: frozenset(names) for group, names in groups.items()}

    def group_of(self, name: str) -> tuple[str, bool] | None:
        """The mixture that this matrix is part of, and whether as a parameter of all experts."""
        group = experts_of(name)
        return None if group is None else (group, self.modules[name].experts is not None)


def experts_of(name: str) -> str | None:
    """The mixture of experts that a matrix belongs to, as `model.layers.0.mlp.experts`.

    PEFT saves the parameters of a whole mixture as `….experts` and `….experts.base_layer`.
    """
    before, found, after = name.partition(_EXPERTS)
    return before + _EXPERTS if found and (not after or after.startswith(".")) else None
