"""`client.aliases`: movable names of versions. `name` alone means its alias `default`."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from adaptry.client.models import AliasRead
from adaptry.client.transport.operations import Group, operation, pages
from adaptry.client.transport.requests import UNSET, Given, Unset, changed, given, moment

S_co = TypeVar("S_co", covariant=True)

DEFAULT_PREPARATION_SECONDS = 60.0
_SMALLEST_PATIENCE_SECONDS = 120.0
_SWITCH_SECONDS = 30.0


class Aliases(Group[S_co]):
    """Move aliases, roll them back, and look at them now and in the past.

    `warm`: bring the version into memory first (by default wherever an engine serves); `probe`:
    generate with it first; `timeout_seconds`: for both together; `evict_old`: put what no alias
    points at any more out of memory, once it is idle.
    """

    @pages("/api/v1/adapters/{name}/aliases", AliasRead)
    def list(self, name: str) -> Given:
        """Where each alias of an adapter points."""
        return Given({"name": name})

    @operation("GET", "/api/v1/adapters/{name}/aliases/{alias}", AliasRead)
    def get(self, name: str, alias: str = "default", *, at: datetime | str | None = None) -> Given:
        """Where an alias points, or pointed at a time (with its zone)."""
        return Given({"name": name, "alias": alias}, {"at": moment(at)})

    @operation("PUT", "/api/v1/adapters/{name}/aliases/{alias}", AliasRead)
    def set(
        self,
        name: str,
        alias: str = "default",
        *,
        version: int | None = None,
        weights: Mapping[int, int] | None = None,
        expected_version: int | Unset | None = UNSET,
        expected_revision: int | None = None,
        reason: str | None = None,
        warm: bool | None = None,
        probe: bool | None = None,
        timeout_seconds: float | None = None,
        evict_old: bool | None = None,
    ) -> Given:
        """Point an alias at a version, or split it over several by weight.

        Raises Conflict if it does not point at `expected_version` (None: if it exists), or has
        not `expected_revision`.
        """
        split = weights and [{"version": n, "weight": weight} for n, weight in weights.items()]
        body = given(
            version=version,
            weights=split,
            expected_revision=expected_revision,
            reason=reason,
            warm=warm,
            probe=probe,
            timeout_seconds=timeout_seconds,
            evict_old=evict_old,
        )
        body |= changed(expected_version=expected_version)
        path = {"name": name, "alias": alias}
        return Given(path, body=body, patience_seconds=_patience(timeout_seconds))

    @operation("POST", "/api/v1/adapters/{name}/aliases/{alias}/rollback", AliasRead)
    def roll_back(
        self,
        name: str,
        alias: str = "default",
        *,
        revision: int | None = None,
        at: datetime | str | None = None,
        expected_version: int | Unset | None = UNSET,
        reason: str | None = None,
        warm: bool | None = None,
        probe: bool | None = None,
        timeout_seconds: float | None = None,
        evict_old: bool | None = None,
    ) -> Given:
        """Bring back an earlier state of an alias, weights and all; by default the one before."""
        body = given(
            revision=revision,
            at=moment(at),
            reason=reason,
            warm=warm,
            probe=probe,
            timeout_seconds=timeout_seconds,
            evict_old=evict_old,
        )
        body |= changed(expected_version=expected_version)
        path = {"name": name, "alias": alias}
        return Given(path, body=body, patience_seconds=_patience(timeout_seconds))

    @operation("DELETE", "/api/v1/adapters/{name}/aliases/{alias}", type(None))
    def delete(
        self,
        name: str,
        alias: str,
        *,
        expected_version: int | None = None,
        reason: str | None = None,
    ) -> Given:
        """Take an alias away. Its history stays, and a rollback brings it back."""
        query = {"expected_version": expected_version, "reason": reason}
        return Given({"name": name, "alias": alias}, query)

    @pages("/api/v1/adapters/{name}/aliases/{alias}/history", AliasRead)
    def history(self, name: str, alias: str = "default", *, page_size: int = 100) -> Given:
        """All states of an alias, the newest first."""
        return Given({"name": name, "alias": alias}, {"limit": page_size})


def _patience(timeout_seconds: float | None) -> float:
    prepared = DEFAULT_PREPARATION_SECONDS if timeout_seconds is None else timeout_seconds
    return max(_SMALLEST_PATIENCE_SECONDS, prepared + _SWITCH_SECONDS)
