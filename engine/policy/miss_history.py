"""Miss history: what was resident in this process, so that a miss has a cause. Pure."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from engine.policy.version_map import VERSIONS_REMEMBERED
from engine.types import AdapterVersion, MissCause, VersionId

K = TypeVar("K")


class MissHistory:
    """Remembers the last `VERSIONS_REMEMBERED`; a miss of an older one counts as cold."""

    def __init__(self) -> None:
        self._versions: OrderedDict[VersionId, None] = OrderedDict()
        self._adapters: OrderedDict[str, None] = OrderedDict()
        self._lost: OrderedDict[VersionId, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._versions) + len(self._adapters) + len(self._lost)

    def record_load(self, version: AdapterVersion) -> None:
        _remember(self._versions, version.id)
        _remember(self._adapters, version.adapter)
        self._lost.pop(version.id, None)

    def record_loss(self, versions: Iterable[VersionId]) -> None:
        """They were resident when a process or an engine ended."""
        for version in versions:
            _remember(self._lost, version)

    def cause_of_miss(self, version: AdapterVersion) -> MissCause:
        """Why this version would be missed if it is not in memory now."""
        if version.id in self._lost:
            return MissCause.RESTART
        if version.id in self._versions:
            return MissCause.EVICTED
        if version.adapter in self._adapters:
            return MissCause.NEW_VERSION
        return MissCause.COLD


def _remember(known: OrderedDict[K, None], key: K) -> None:
    known[key] = None
    known.move_to_end(key)
    if len(known) > VERSIONS_REMEMBERED:
        known.popitem(last=False)
