"""Revocations: ends the requests that hold an adapter which an operator forces out."""

import asyncio

from engine.cache.lease import Revoke
from engine.types import VersionId


class Revocations:
    """What to call for each lease, and which versions are being forced out."""

    def __init__(self) -> None:
        self._revokes: dict[VersionId, list[Revoke]] = {}
        self._revoked: set[VersionId] = set()

    def add(self, version: VersionId, revoke: Revoke) -> None:
        """A lease begins."""
        self._revokes.setdefault(version, []).append(revoke)
        if version in self._revoked:  # since the grant
            revoke()

    def remove(self, version: VersionId, revoke: Revoke) -> None:
        """It ends."""
        self._revokes[version].remove(revoke)
        if not self._revokes[version]:
            del self._revokes[version]

    def revoke(self, version: VersionId, until: asyncio.Future[None]) -> None:
        """End every request that holds it, until then."""
        self._revoked.add(version)
        until.add_done_callback(lambda _: self._revoked.discard(version))
        for revoke in list(self._revokes.get(version, ())):
            revoke()
