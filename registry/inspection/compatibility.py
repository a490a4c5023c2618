"""Compatibility of an adapter's modules with the base model and this engine.

vLLM would refuse incompatible modules, serve them wrongly, or silently ignore them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.supported_modules import (
    Shape,
    SupportedModule,
    SupportedModules,
    experts_of,
)
from registry.inspection.tensors import AdapterTensors, Pair, first_tensor, is_matrix, quote_name

_EMBEDDINGS = frozenset({"embed_tokens", "lm_head", "wte", "embed_in", "embed_out"})


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the engine applies each module of an adapter; nowhere if no engine was asked."""

    base: BaseModel
    names: Mapping[str, str]
    """The engine's name by the adapter's."""

    @classmethod
    def ask(cls, tensors: AdapterTensors, base: BaseModel) -> Self:
        """Raises EngineAway."""
        if base.served is None:
            return cls(base, {})
        firsts = {first_tensor(module, pair): module for module, pair in tensors.pairs.items()}
        places = base.served.places(firsts)
        return cls(base, {firsts[tensor]: place for tensor, place in places.items()})

    def served(self, module: str) -> SupportedModule | None:
        """None: the engine would refuse it or silently ignore it, or there is none."""
        if self.base.served is None or module not in self.names:
            return None
        return self.base.served.modules.get(self.names[module])

    def shape(self, module: str) -> Shape | None:
        """(out_features, in_features) if they are known, of an embedding (width, tokens)."""
        served = self.served(module)
        if served is not None and served.shape is not None:
            return served.shape
        shapes = self.base.shapes or {}
        if served is not None and served.experts is not None:
            return _mixture_shape(module, shapes)
        return next((shapes[name] for name in _in_files(module) if name in shapes), None)

    def experts(self, module: str) -> int | None:
        """How many experts its tensors hold; 1 for an ordinary module, None if not known."""
        served = self.served(module)
        if served is not None:
            return served.experts or 1
        return None if _is_mixture(module) else 1


def fit_problems(pairs: Mapping[str, Pair], placement: Placement) -> Iterator[InvalidAdapter]:
    """All incompatibilities of the adapter's modules with the base model."""
    for module, pair in pairs.items():
        problem = _place_problem(module, pair, placement) or _shape_problem(module, pair, placement)
        if problem is not None:
            yield problem
    if placement.base.served is not None:
        yield from _duplicates(pairs, placement)
        yield from _expert_problems(pairs, placement, placement.base.served)


def _place_problem(module: str, pair: Pair, placement: Placement) -> InvalidAdapter | None:
    base, served = placement.base, placement.served(module)
    is_in_base = base.shapes is not None and any(name in base.shapes for name in _in_files(module))
    if base.served is None:
        if (base.shapes is None or is_in_base) and not _is_embedding(module, pair):
            return None
    elif served is not None:
        return _kind_problem(module, pair, served)
    if _is_embedding(module, pair):
        detail = f"{quote_name(module)}: embeddings and heads of this base model are not served"
        return InvalidAdapter(Defect.EMBEDDING_UNSUPPORTED, detail)
    if ".experts" in module:
        return InvalidAdapter(Defect.EXPERTS_UNSUPPORTED, _expert_refusal(module, base))
    if is_in_base:
        detail = f"{quote_name(module)} is in {base.name}, but the engine takes no adapter for it"
        return InvalidAdapter(Defect.MODULE_NOT_SERVED, detail)
    detail = f"{base.name} has no linear layer {quote_name(module)}"
    return InvalidAdapter(Defect.UNKNOWN_MODULE, detail)


def _in_files(module: str) -> tuple[str, ...]:
    """Its name in the base model's files: those of the model with a head, or without."""
    return module, f"model.{module}", module.removeprefix("model.")


def _is_mixture(module: str) -> bool:
    return module.endswith((".experts", ".experts.base_layer"))


def _expert_refusal(module: str, base: BaseModel) -> str:
    if base.served is None:
        return f"{quote_name(module)}: no engine was asked whether it serves experts"
    if _is_mixture(module) and base.served.experts:
        return (
            f"{quote_name(module)}: the experts are parameters of one module; this engine takes "
            "them one by one, and both forms with --enable-mixed-moe-lora-format"
        )
    return f"{quote_name(module)}: experts are not served in this form"


def _mixture_shape(module: str, shapes: Mapping[str, Shape | None]) -> Shape | None:
    """From an expert's own weights: vLLM may have padded what it holds."""
    group = experts_of(module)
    for gate in ("gate_proj", "w1"):
        for name in _in_files(f"{group}.0.{gate}"):
            if (shape := shapes.get(name)) is not None:
                inner, width = shape
                is_first = module.endswith(".base_layer")
                return (2 * inner, width) if is_first else (width, inner)
    return None


def _is_embedding(module: str, pair: Pair) -> bool:
    return pair.is_embedding or module.rpartition(".")[2] in _EMBEDDINGS


def _kind_problem(module: str, pair: Pair, served: SupportedModule) -> InvalidAdapter | None:
    if pair.is_embedding == served.is_embedding:
        return None
    is_, has = ("an embedding", "a linear layer")[:: 1 if served.is_embedding else -1]
    return InvalidAdapter(
        Defect.EMBEDDING_UNSUPPORTED, f"{quote_name(module)} is {is_}, its pair is made for {has}"
    )


def _shape_problem(module: str, pair: Pair, placement: Placement) -> InvalidAdapter | None:
    wanted = placement.shape(module)
    if wanted is None or not (is_matrix(pair.a) and is_matrix(pair.b)) or pair.shape == wanted:
        return None
    return InvalidAdapter(
        Defect.SHAPE_MISMATCH,
        f"{quote_name(module)} is made for {pair.shape}, {placement.base.name} has {wanted} "
        "(out, in)",
    )


def _duplicates(pairs: Mapping[str, Pair], placement: Placement) -> Iterator[InvalidAdapter]:
    """Names that the engine maps to one module: the second would overwrite the first."""
    seen: dict[str, str] = {}
    for module in filter(placement.names.__contains__, pairs):
        first = seen.setdefault(placement.names[module], module)
        if first != module:
            detail = f"{quote_name(first)} and {quote_name(module)} are one module to the engine"
            yield InvalidAdapter(Defect.DUPLICATE_MODULE, detail)


def _expert_problems(
    pairs: Mapping[str, Pair], placement: Placement, served: SupportedModules
) -> Iterator[InvalidAdapter]:
    """vLLM packs the experts of a layer into one, so that each must have all, of one rank.

    In the form of parameters, which holds all of them, both parameters are needed.
    """
    found: dict[tuple[str, bool], dict[str, Pair]] = {}
    for module, pair in pairs.items():
        name = placement.names.get(module)
        group = None if name is None else served.group_of(name)
        if name is not None and group is not None:
            found.setdefault(group, {})[name] = pair
    for group, members in found.items():
        if members.keys() != served.experts[group]:
            many = f"{len(members)} of {len(served.experts[group])} matrices have a pair"
            detail = f"{quote_name(group[0])}: {many}"
            yield InvalidAdapter(Defect.EXPERTS_UNSUPPORTED, detail)
        elif _ranks_differ(members):
            detail = f"{quote_name(group[0])}: the experts have different ranks"
            yield InvalidAdapter(Defect.EXPERTS_UNSUPPORTED, detail)


def _ranks_differ(members: Mapping[str, Pair]) -> bool:
    """Whether ranks differ within one projection, such as `w1` or `down_proj`."""
    ranks: dict[str, set[int]] = {}
    for name, pair in members.items():
        ranks.setdefault(name.rpartition(".")[2], set()).add(pair.a.shape[0])
    return any(len(different) > 1 for different in ranks.values())
