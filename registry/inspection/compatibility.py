"""Compatibility of an adapter's modules with the base model and this engine.

vLLM would refuse incompatible modules, serve them wrongly, or silently ignore them.
"""

from collections.abc import Iterator, Mapping

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.supported_modules import (
    Shape,
    SupportedModule,
    SupportedModules,
    experts_of,
)
from registry.inspection.tensors import Pair, is_matrix, quote_name

_EMBEDDINGS = frozenset({"embed_tokens", "lm_head", "wte", "embed_in", "embed_out"})


def fit_problems(pairs: Mapping[str, Pair], base: BaseModel) -> Iterator[InvalidAdapter]:
    """All incompatibilities of the adapter's modules with the base model."""
    for module, pair in pairs.items():
        problem = _place_problem(module, pair, base) or _shape_problem(module, pair, base)
        if problem is not None:
            yield problem
    if base.served is not None:
        yield from _duplicates(pairs, base.served)
        yield from _expert_problems(pairs, base.served)


def shape_of(module: str, base: BaseModel) -> Shape | None:
    """(out_features, in_features) if they are known, of an embedding (width, tokens)."""
    served = base.served.find(module) if base.served is not None else None
    if served is not None and served.shape is not None:
        return served.shape
    return None if base.shapes is None else base.shapes.get(module)


def touches_experts(pairs: Mapping[str, Pair], base: BaseModel) -> bool:
    served = base.served
    return served is not None and any(experts_of(served.name_of(module)) for module in pairs)


def _place_problem(module: str, pair: Pair, base: BaseModel) -> InvalidAdapter | None:
    served = None if base.served is None else base.served.find(module)
    if base.served is None:
        is_known = base.shapes is None or module in base.shapes
        if is_known and not _is_embedding(module, pair):
            return None
    elif served is not None:
        return _kind_problem(module, pair, served)
    if _is_embedding(module, pair):
        detail = f"{quote_name(module)}: embeddings and heads of this base model are not served"
        return InvalidAdapter(Defect.EMBEDDING_UNSUPPORTED, detail)
    if ".experts" in module:
        detail = f"{quote_name(module)}: experts are not served in this form"
        return InvalidAdapter(Defect.EXPERTS_UNSUPPORTED, detail)
    if base.shapes is not None and module in base.shapes:
        detail = f"{quote_name(module)} is in {base.name}, but the engine takes no adapter for it"
        return InvalidAdapter(Defect.MODULE_NOT_SERVED, detail)
    detail = f"{base.name} has no linear layer {quote_name(module)}"
    return InvalidAdapter(Defect.UNKNOWN_MODULE, detail)


def _is_embedding(module: str, pair: Pair) -> bool:
    return pair.is_embedding or module.rpartition(".")[2] in _EMBEDDINGS


def _kind_problem(module: str, pair: Pair, served: SupportedModule) -> InvalidAdapter | None:
    if pair.is_embedding == served.is_embedding:
        return None
    is_, has = ("an embedding", "a linear layer")[:: 1 if served.is_embedding else -1]
    return InvalidAdapter(
        Defect.EMBEDDING_UNSUPPORTED, f"{quote_name(module)} is {is_}, its pair is made for {has}"
    )


def _shape_problem(module: str, pair: Pair, base: BaseModel) -> InvalidAdapter | None:
    wanted = shape_of(module, base)
    if wanted is None or not (is_matrix(pair.a) and is_matrix(pair.b)) or pair.shape == wanted:
        return None
    return InvalidAdapter(
        Defect.SHAPE_MISMATCH,
        f"{quote_name(module)} is made for {pair.shape}, {base.name} has {wanted} (out, in)",
    )


def _duplicates(pairs: Mapping[str, Pair], served: SupportedModules) -> Iterator[InvalidAdapter]:
    """Names that the engine maps to one module: the second would overwrite the first."""
    seen: dict[str, str] = {}
    for module in pairs:
        first = seen.setdefault(served.name_of(module), module)
        if first != module:
            detail = f"{quote_name(first)} and {quote_name(module)} are one module to the engine"
            yield InvalidAdapter(Defect.DUPLICATE_MODULE, detail)


def _expert_problems(
    pairs: Mapping[str, Pair], served: SupportedModules
) -> Iterator[InvalidAdapter]:
    """vLLM packs the experts of a layer into one, so that each must have all, of one rank."""
    found: dict[str, dict[str, Pair]] = {}
    for module, pair in pairs.items():
        name = served.name_of(module)
        group = experts_of(name)
        if group is not None and group in served.experts:
            found.setdefault(group, {})[name] = pair
    for group, members in found.items():
        if members.keys() != served.experts[group]:
            detail = f"{quote_name(group)}: {len(members)} of {len(served.experts[group])} matrices"
            yield InvalidAdapter(Defect.EXPERTS_UNSUPPORTED, f"{detail} have a pair")
        elif _ranks_differ(members):
            detail = f"{quote_name(group)}: the experts have different ranks"
            yield InvalidAdapter(Defect.EXPERTS_UNSUPPORTED, detail)


def _ranks_differ(members: Mapping[str, Pair]) -> bool:
    """Whether ranks differ within one projection, such as `w1` or `down_proj`."""
    ranks: dict[str, set[int]] = {}
    for name, pair in members.items():
        ranks.setdefault(name.rpartition(".")[2], set()).add(pair.a.shape[0])
    return any(len(different) > 1 for different in ranks.values())
