"""`client.aliases`: movable names of versions. A bare `name` means its alias `default`."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from adaptry.client.models import AliasRead
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import (
    UNSET,
    Parameters,
    Unset,
    format_time,
    without_none,
    without_unset,
)

T_co = TypeVar("T_co", covariant=True)

DEFAULT_PREPARATION_SECONDS = 60.0
_MIN_TIMEOUT_SECONDS = 120.0
_SWITCH_SECONDS = 30.0


class Aliases(Resource[T_co]):
    """Set aliases, roll them back, and read them now and in the past.

    `warm`: load the version into memory first (by default if the server has an engine); `probe`:
    generate with it first; `timeout_seconds`: for both together; `evict_old`: evict versions that
    no alias points at any more, once they are idle.
    """

    @pages("/api/v1/adapters/{name}/aliases", AliasRead)
    def list(self, name: str) -> Parameters:
        """Where each alias of an adapter points."""
        return Parameters({"name": name})

    @operation("GET", "/api/v1/adapters/{name}/aliases/{alias}", AliasRead)
    def get(
        self, name: str, alias: str = "default", *, at: datetime | str | None = None
    ) -> Parameters:
        """Where an alias points, or pointed at a given time (with its zone)."""
        return Parameters({"name": name, "alias": alias}, {"at": format_time(at)})

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
    ) -> Parameters:
        """Point an alias at a version, or split it over several by weight.

        Raises Conflict unless it points at `expected_version` (None: unless it does not exist)
        and has `expected_revision`.
        """
        split = weights and [{"version": n, "weight": weight} for n, weight in weights.items()]
        body = without_none(
            version=version,
            weights=split,
            expected_revision=expected_revision,
            reason=reason,
            warm=warm,
            probe=probe,
            timeout_seconds=timeout_seconds,
            evict_old=evict_old,
        )
        body |= without_unset(expected_version=expected_version)
        path = {"name": name, "alias": alias}
        return Parameters(path, body=body, timeout_seconds=_request_timeout(timeout_seconds))

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
    ) -> Parameters:
        """Restore an earlier state of an alias with its weights, by default the previous one."""
        body = without_none(
            revision=revision,
            at=format_time(at),
            reason=reason,
            warm=warm,
            probe=probe,
            timeout_seconds=timeout_seconds,
            evict_old=evict_old,
        )
        body |= without_unset(expected_version=expected_version)
        path = {"name": name, "alias": alias}
        return Parameters(path, body=body, timeout_seconds=_request_timeout(timeout_seconds))

    @operation("DELETE", "/api/v1/adapters/{name}/aliases/{alias}", type(None))
    def delete(
        self,
        name: str,
        alias: str,
        *,
        expected_version: int | None = None,
        reason: str | None = None,
    ) -> Parameters:
        """Delete an alias. Its history stays, and a rollback restores it."""
        query = {"expected_version": expected_version, "reason": reason}
        return Parameters({"name": name, "alias": alias}, query)

    @pages("/api/v1/adapters/{name}/aliases/{alias}/history", AliasRead)
    def history(self, name: str, alias: str = "default", *, page_size: int = 100) -> Parameters:
        """All states of an alias, the newest first."""
        return Parameters({"name": name, "alias": alias}, {"limit": page_size})


def _request_timeout(timeout_seconds: float | None) -> float:
    preparation = DEFAULT_PREPARATION_SECONDS if timeout_seconds is None else timeout_seconds
    return max(_MIN_TIMEOUT_SECONDS, preparation + _SWITCH_SECONDS)
