"""Remembers what was resident in this process, so that a miss can say why it missed."""

from engine.types import AdapterVersion, MissCause, VersionId


class ResidencyHistory:
    """Grows by one integer per version ever loaded."""

    def __init__(self) -> None:
        self._versions: set[VersionId] = set()
        self._adapters: set[str] = set()

    def entered(self, version: AdapterVersion) -> None:
        self._versions.add(version.id)
        self._adapters.add(version.adapter)

    def cause_of_miss(self, version: AdapterVersion) -> MissCause:
        """Why this version would be missed if it is not in memory now."""
        if version.id in self._versions:
            return MissCause.EVICTED
        if version.adapter in self._adapters:
            return MissCause.NEW_VERSION
        return MissCause.COLD
