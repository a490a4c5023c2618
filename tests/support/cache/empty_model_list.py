"""Empty model list, for applications whose test is not about it."""

from collections.abc import Sequence

from engine.gateway.model_list import ModelList
from engine.ports import Resolver
from registry.catalog.types import PublishedVersion, ServedReference
from registry.errors import UnknownVersion


async def _none(*ignored: object) -> Sequence[ServedReference]:
    return []


async def _no_version(adapter: str, number: int) -> PublishedVersion:
    raise UnknownVersion(adapter, number)


class _NoNames:
    async def served(self, *ignored: object) -> Sequence[ServedReference]:
        return []

    async def has(self, *ignored: object) -> bool:
        return False


def empty_model_list(resolver: Resolver) -> ModelList:
    return ModelList(_none, _NoNames(), resolver, _no_version)
