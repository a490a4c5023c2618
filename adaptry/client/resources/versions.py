"""`client.versions`: the immutable versions of adapters, by reference, `name:3`."""

from collections.abc import Sequence
from typing import TypeVar

from adaptry.client.models import GarbageRead, ProbeRead, PurgeRead, VersionRead, VersionState
from adaptry.client.resources.registration import VersionRegistration
from adaptry.client.resources.version_search import VersionSearch
from adaptry.client.transport.operations import download, operation
from adaptry.client.transport.requests import Parameters, parse_version, without_none

T_co = TypeVar("T_co", covariant=True)


class Versions(VersionRegistration[T_co], VersionSearch[T_co]):
    """Register, find and describe versions, and control their lifecycle."""

    @operation("GET", "/api/v1/resolve", VersionRead)
    def resolve(
        self, reference: str, *, user: str | None = None, base: str | None = None
    ) -> Parameters:
        """The version that a reference means now, if it may be served.

        `user`: with a traffic split, the version that this user gets. `base`: the base model of an
        engine that is not the server's, as `NAME#DIGEST`; only what is bound to it is found.
        """
        return Parameters(query={"reference": reference, "user": user, "base": base})

    @download("/api/v1/adapters/{name}/versions/{number}/files")
    def download(self, reference: str) -> Parameters:
        """The files of a version in any state, as chunks of a tar for `unpack_version`.

        `with client.versions.download("name:3") as chunks: …`. Raises NoAnswer also if the
        connection is lost, or nothing comes for as long as the client waits for an answer.
        """
        return Parameters(parse_version(reference))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/deprecate", VersionRead)
    def deprecate(self, reference: str, *, reason: str | None = None) -> Parameters:
        """Keep serving a version, with a `deprecation` header in each response."""
        return Parameters(parse_version(reference), body=without_none(reason=reason))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/restore", VersionRead)
    def restore(self, reference: str, *, reason: str | None = None) -> Parameters:
        """Make a version ready again that was deprecated, retired or quarantined."""
        return Parameters(parse_version(reference), body=without_none(reason=reason))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/recheck", VersionRead)
    def recheck(self, reference: str, *, from_base: str | None = None) -> Parameters:
        """Inspect a version again; if it fits, bind it to the base model that the server serves.

        `from_base`: what it is bound to now, if that is another one. Raises Conflict, Invalid.
        """
        return Parameters(parse_version(reference), body=without_none(from_base=from_base))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/retire", VersionRead)
    def retire(
        self,
        reference: str,
        *,
        move_aliases_to: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> Parameters:
        """Refuse new requests for a version; requests in progress complete normally.

        Aliases that point at it are moved in the same transaction, or, with `force`, left in place
        and refused too. Without either, they are a Conflict.
        """
        body = without_none(move_aliases_to=move_aliases_to, force=force, reason=reason)
        return Parameters(parse_version(reference), body=body)

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/quarantine", VersionRead)
    def quarantine(self, reference: str, reason: str, *, code: str = "operator") -> Parameters:
        """Stop serving a version, whatever points at it, until it is restored."""
        return Parameters(parse_version(reference), body=without_none(reason=reason, code=code))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/purge", PurgeRead)
    def purge(self, reference: str, *, reason: str | None = None) -> Parameters:
        """Delete the files of a retired, quarantined or rejected version."""
        return Parameters(parse_version(reference), body=without_none(reason=reason))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/probe", ProbeRead)
    def probe(self, reference: str) -> Parameters:
        """Load the version and compare its log probabilities with the base model's.

        It fails if that changes nothing, or the engine computes no finite numbers. The version
        stays as it is: the engine may be to blame.
        """
        return Parameters(parse_version(reference))

    @operation("POST", "/api/v1/gc", GarbageRead)
    def collect_garbage(
        self,
        *,
        dry_run: bool = True,
        states: Sequence[VersionState] | None = None,
        keep_last: int | None = None,
        rollback_window_days: float | None = None,
        adapter: str | None = None,
        limit: int | None = None,
    ) -> Parameters:
        """Purge versions that no rule keeps, and orphaned files; by default only list them."""
        body = without_none(
            dry_run=dry_run,
            states=states,
            keep_last=keep_last,
            rollback_window_days=rollback_window_days,
            adapter=adapter,
            limit=limit,
        )
        return Parameters(body=body)
