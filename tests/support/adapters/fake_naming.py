"""Fake naming: of no engine, for unit tests of inspection.

It calls every module as the adapter does, but for what `renames` replaces in a name.
"""

from collections.abc import Iterable, Mapping, Sequence

_PREFIX = "base_model.model."
_SUFFIXES = (".lora_A.weight", ".lora_embedding_A", ".weight")


class FakeNaming:
    """`asked` has every question."""

    def __init__(self, modules: Iterable[str], renames: Mapping[str, str] | None = None) -> None:
        self._modules = frozenset(modules)
        self._renames = renames or {}
        self.asked: list[tuple[str, ...]] = []

    def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        self.asked.append(tuple(tensors))
        return [self._place(tensor) for tensor in tensors]

    def _place(self, tensor: str) -> str | None:
        module = tensor.removeprefix(_PREFIX)
        for suffix in _SUFFIXES:
            module = module.removesuffix(suffix)
        for old, new in self._renames.items():
            module = module.replace(old, new, 1)
        return module if module in self._modules else None
