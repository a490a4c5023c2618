"""Miss history: what was resident in this process, so that a miss has a cause. Pure."""

from collections.abc import Iterable

from engine.types import AdapterVersion, MissCause, VersionId


class MissHistory:
    """Grows by one integer per version ever loaded."""

    def __init__(self) -> None:
        self._versions: set[VersionId] = set()
        self._adapters: set[str] = set()
        self._lost: set[VersionId] = set()

    def record_load(self, version: AdapterVersion) -> None:
        self._versions.add(version.id)
        self._adapters.add(version.adapter)
        self._lost.discard(version.id)

    def record_loss(self, versions: Iterable[VersionId]) -> None:
        """They were resident when a process or an engine ended."""
        self._lost.update(versions)

    def cause_of_miss(self, version: AdapterVersion) -> MissCause:
        """Why this version would be missed if it is not in memory now."""
        if version.id in self._lost:
            return MissCause.RESTART
        if version.id in self._versions:
            return MissCause.EVICTED
        if version.adapter in self._adapters:
            return MissCause.NEW_VERSION
        return MissCause.COLD
