"""Resolvers of tests: they know their adapters by name, and no registry."""

from collections.abc import Iterable

from engine.types import AdapterVersion
from registry.errors import UnknownAdapter


class OneAdapter:
    """Whatever the name."""

    def __init__(self, version: AdapterVersion) -> None:
        self._version = version

    async def resolve(self, text: str, user: object = None) -> AdapterVersion:
        return self._version

    async def find(self, text: str) -> AdapterVersion:
        return self._version


class KnownAdapters:
    """By their names and versions."""

    def __init__(self, versions: Iterable[AdapterVersion]) -> None:
        self._known = {version.adapter: version for version in versions}

    async def resolve(self, text: str, user: object = None) -> AdapterVersion:
        return await self.find(text)

    async def find(self, text: str) -> AdapterVersion:
        name = text.partition(":")[0]
        if name not in self._known:
            raise UnknownAdapter(name)
        return self._known[name]
