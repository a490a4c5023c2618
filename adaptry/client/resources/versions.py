"""`client.versions`: what is immutable and served. One is named by its reference, `name:3`."""

from collections.abc import Sequence
from typing import TypeVar

from adaptry.client.models import GarbageRead, ProbeRead, PurgeRead, VersionRead, VersionState
from adaptry.client.resources.registration import Registering
from adaptry.client.resources.version_search import Details
from adaptry.client.transport.operations import download, operation
from adaptry.client.transport.requests import Given, given, version_of

S_co = TypeVar("S_co", covariant=True)


class Versions(Registering[S_co], Details[S_co]):
    """Register, find and describe versions, and end them."""

    @operation("GET", "/api/v1/resolve", VersionRead)
    def resolve(self, reference: str, *, user: str | None = None) -> Given:
        """The version that a reference means now, if it may be served.

        `user`: of a split alias, the version that this user gets.
        """
        return Given(query={"reference": reference, "user": user})

    @download("/api/v1/adapters/{name}/versions/{number}/files")
    def download(self, reference: str) -> Given:
        """The files as the chunks of a tar, of a version in whatever state: `unpack_version`.

        `with client.versions.download("name:3") as chunks: …`. Raises NoAnswer also when it
        breaks off.
        """
        return Given(version_of(reference))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/deprecate", VersionRead)
    def deprecate(self, reference: str, *, reason: str | None = None) -> Given:
        """Go on serving a version, with a `deprecation` header in each answer."""
        return Given(version_of(reference), body=given(reason=reason))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/restore", VersionRead)
    def restore(self, reference: str, *, reason: str | None = None) -> Given:
        """Make a version ready again that was deprecated, retired or quarantined."""
        return Given(version_of(reference), body=given(reason=reason))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/retire", VersionRead)
    def retire(
        self,
        reference: str,
        *,
        move_aliases_to: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> Given:
        """Refuse new requests for a version; those under way end as they began.

        Aliases that point at it are moved in the same transaction, or, with `force`, left where
        they are and refused too. Without either they are a Conflict.
        """
        body = given(move_aliases_to=move_aliases_to, force=force, reason=reason)
        return Given(version_of(reference), body=body)

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/quarantine", VersionRead)
    def quarantine(self, reference: str, reason: str, *, code: str = "operator") -> Given:
        """Serve a version no more, wherever aliases point, until it is restored."""
        return Given(version_of(reference), body=given(reason=reason, code=code))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/purge", PurgeRead)
    def purge(self, reference: str, *, reason: str | None = None) -> Given:
        """Delete the files of a retired, quarantined or rejected version."""
        return Given(version_of(reference), body=given(reason=reason))

    @operation("POST", "/api/v1/adapters/{name}/versions/{number}/probe", ProbeRead)
    def probe(self, reference: str) -> Given:
        """Load the version and compare its log probabilities with the base model's.

        One that changes nothing, or computes no finite numbers, is quarantined.
        """
        return Given(version_of(reference))

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
    ) -> Given:
        """Purge what no rule keeps, and files without a row; by default only say which."""
        body = given(
            dry_run=dry_run,
            states=states,
            keep_last=keep_last,
            rollback_window_days=rollback_window_days,
            adapter=adapter,
            limit=limit,
        )
        return Given(body=body)
