"""What the registry refuses, each with its HTTP status and a code that never changes.

RegistryError
├── InvalidReference     400  not `name`, `name@alias` or `name:3`
├── InvalidPageToken     400
├── InvalidEventId       400
├── UnknownAdapter       404
├── UnknownVersion       404
├── UnknownAlias         404
├── UnknownRevision      404  of an alias
├── UnknownWebhook       404
├── UnknownDelivery      404
├── KeyRequired          401  none was sent
├── InvalidKey           401  unknown, expired or revoked
├── CrossOrigin          403  another site's page sent it
├── ScopeMissing         403  the key is good, but not for this
├── NotOwner             403  the adapter is granted to the caller's tenant, not its own
├── PlatformOnly         403  no key of a tenant may do it
├── UnknownTenant        404
├── TenantExists         409
├── TenantNotEmpty       409  it has adapters or valid keys
├── TenantLimit          409; 429 where waiting helps: a limit of the tenant
├── UnknownKey           404
├── KeyExists            409
├── KeyRevoked           409
├── LastAdminKey         409  nobody could make another one
├── VersionUnavailable   410 retired, purged; 409 quarantined, rejected, pending
├── VersionNotServable   409  no alias may point at it in its state
├── TransitionRefused    409  not from the state it is in
├── VersionAliased       409  aliases point at it
├── VersionInUse         409  the engine holds it
├── FilesMissing         409  they are not in the store
├── FilesDamaged         409  they are not what was registered
├── AliasMoved           409  somebody moved it first (compare-and-set)
├── NothingToRollBack    409
├── LineageCycle         409
├── MetadataTooLarge     413
├── NameReserved         409  the base model's name
├── InvalidSource        400  neither a path nor a URL that we read
├── SourceNotAllowed     403  outside the configured roots, URLs and networks
├── SourceDenied         403  the other side wants credentials, or other ones
├── SourceNotFound       404
├── SourceTooLarge       413  too many bytes or too many files
├── AddressNotAllowed    403  a private, local or otherwise special address
├── HostUnknown          422  its name has no address
├── InvalidUrl           422
├── SourceUnsupported    501  a package that it needs is not installed
├── SourceUnavailable    502  the other side does not answer as it should; tried again
├── SourceTimeout        504
├── BodyTooLarge         413
├── BodyTimeout          408  it comes too slowly
├── BodyTooDeep          400  JSON within JSON within JSON
├── BodyNotText          400
├── InvalidUpload        400  the request's body is not what it says
├── TooManyUploads       429
├── InvalidArchive       422  what is wrong with an export; the code says what
├── ImportConflict       409  the registry has something else there
├── InvalidAdapter       422  what inspection found; the code says what
├── UnknownJob           404
├── JobFinished          409  too late to cancel it
├── TooManyStreams       503
├── EngineAway           503  it does not answer, or there is none
├── WarmingFailed        503; 422 where it will never work
├── ProbeFailed          422  what the engine makes of the version; the code says what
├── PromotionTimeout     504
├── StoreUnavailable     503  the disk
└── DatabaseUnavailable  503
"""

from collections.abc import Sequence
from datetime import datetime

from registry.defects import Defect
from registry.keys.refusal import KeyRefusal
from registry.quotas.limits import Limit


class RegistryError(Exception):
    """Base of the tree. `code` is for programs, `detail` for people."""

    status = 500
    code = "registry_error"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidReference(RegistryError):
    status = 400
    code = "invalid_reference"


class InvalidPageToken(RegistryError):
    status = 400
    code = "invalid_page_token"

    def __init__(self) -> None:
        super().__init__("page_token is not one that an earlier page gave")


class InvalidEventId(RegistryError):
    status = 400
    code = "invalid_event_id"

    def __init__(self) -> None:
        super().__init__("Last-Event-ID is not the id of an event")


class UnknownAdapter(RegistryError):
    status = 404
    code = "unknown_adapter"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no adapter {name!r}")


class UnknownVersion(RegistryError):
    status = 404
    code = "unknown_version"

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"adapter {name!r} has no version {number}")


class UnknownAlias(RegistryError):
    status = 404
    code = "unknown_alias"

    def __init__(self, name: str, alias: str, at: datetime | None = None) -> None:
        then = f"had no alias {alias!r} at {at.isoformat()}" if at else f"has no alias {alias!r}"
        super().__init__(f"adapter {name!r} {then}")


class UnknownRevision(RegistryError):
    status = 404
    code = "unknown_revision"

    def __init__(self, reference: str, what: str) -> None:
        super().__init__(f"{reference} had no state {what}")


class VersionUnavailable(RegistryError):
    """Asked for by a client. The code names the state: `version_retired`, …"""

    status = 409

    def __init__(self, reference: str, state: str, reason: str | None) -> None:
        super().__init__(f"{reference} is {state}" + (f": {reason}" if reason else ""))
        self.code = f"version_{state}"
        if state in ("retired", "purged"):
            self.status = 410


class UnknownWebhook(RegistryError):
    status = 404
    code = "unknown_webhook"

    def __init__(self, webhook_id: int) -> None:
        super().__init__(f"there is no webhook {webhook_id}")


class KeyRequired(RegistryError):
    status = 401
    code = "key_required"
    refusal = KeyRefusal.MISSING

    def __init__(self) -> None:
        super().__init__("send an API key: Authorization: Bearer adp_…")


class InvalidKey(RegistryError):
    status = 401
    code = "invalid_key"

    def __init__(self, refusal: KeyRefusal = KeyRefusal.MALFORMED) -> None:
        """`refusal` is for the one who runs the server: others could learn from it."""
        super().__init__("this API key is unknown, expired or revoked")
        self.refusal = refusal


class CrossOrigin(RegistryError):
    status = 403
    code = "cross_origin"

    def __init__(self) -> None:
        super().__init__(
            "another site's page sent this; --allowed-origins says which ones may, "
            "and programs leave the header Origin out"
        )


class ScopeMissing(RegistryError):
    status = 403
    code = "scope_missing"
    refusal = KeyRefusal.SCOPE

    def __init__(self, needed: Sequence[str]) -> None:
        super().__init__(f"this API key has not the scope that is needed: {' or '.join(needed)}")


class NotOwner(RegistryError):
    status = 403
    code = "not_owner"

    def __init__(self, adapter: str) -> None:
        super().__init__(f"{adapter!r} is another tenant's: this key may use it, not change it")


class PlatformOnly(RegistryError):
    status = 403
    code = "platform_only"
    refusal = KeyRefusal.PLATFORM

    def __init__(self) -> None:
        super().__init__("this is for keys of the platform, and not for a tenant's")


class UnknownTenant(RegistryError):
    status = 404
    code = "unknown_tenant"

    def __init__(self, name: str | None) -> None:
        """None: there is none in the name of what a tenant would make."""
        missing = "the name of what a tenant's key makes begins with its tenant's and a tilde"
        super().__init__(missing if name is None else f"there is no tenant {name!r}")


class TenantExists(RegistryError):
    status = 409
    code = "tenant_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a tenant {name!r} already")


class TenantNotEmpty(RegistryError):
    status = 409
    code = "tenant_not_empty"

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"the tenant {name!r} still has {what}")


class TenantLimit(RegistryError):
    """With `retry_after_seconds` it helps to come again then."""

    status = 409
    code = "tenant_limit"

    def __init__(self, limit: Limit, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.status = 429


class UnknownKey(RegistryError):
    status = 404
    code = "unknown_key"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no key {name!r}")


class KeyExists(RegistryError):
    status = 409
    code = "key_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a key {name!r} already, perhaps a revoked one")


class KeyRevoked(RegistryError):
    status = 409
    code = "key_revoked"

    def __init__(self, name: str) -> None:
        super().__init__(f"the key {name!r} is revoked: make another one")


class LastAdminKey(RegistryError):
    status = 409
    code = "last_admin_key"

    def __init__(self) -> None:
        super().__init__("no other key has the scope admin: make one first")


class UnknownDelivery(RegistryError):
    status = 404
    code = "unknown_delivery"

    def __init__(self, webhook_id: int, delivery_id: int) -> None:
        super().__init__(f"webhook {webhook_id} has no delivery {delivery_id}")


class VersionNotServable(RegistryError):
    status = 409
    code = "version_not_servable"

    def __init__(self, reference: str, state: str) -> None:
        super().__init__(f"{reference} is {state}: no alias may point at it")


class TransitionRefused(RegistryError):
    status = 409
    code = "transition_refused"

    def __init__(self, reference: str, state: str, wanted: str) -> None:
        super().__init__(f"{reference} is {state}: from there it can't become {wanted}")


class VersionAliased(RegistryError):
    status = 409
    code = "version_aliased"

    def __init__(self, reference: str, aliases: Sequence[str]) -> None:
        names = ", ".join(aliases)
        super().__init__(f"{reference} is still where {names} points: move or delete that first")


class VersionInUse(RegistryError):
    status = 409
    code = "version_in_use"

    def __init__(self, reference: str) -> None:
        super().__init__(f"requests still hold, await or load {reference}: try again later")


class FilesMissing(RegistryError):
    status = 409
    code = "files_missing"

    def __init__(self, reference: str) -> None:
        super().__init__(f"the files of {reference} are not in the store: register them again")


class FilesDamaged(RegistryError):
    status = 409
    code = "files_damaged"

    def __init__(self, reference: str, what: str) -> None:
        super().__init__(f"the files of {reference} are not what was registered: {what}")


class AliasMoved(RegistryError):
    status = 409
    code = "alias_moved"

    def __init__(
        self, reference: str, expected: int | None, found: int | None, what: str = "version"
    ) -> None:
        super().__init__(f"{reference} is at {what} {found}, not {expected}: read it again first")


class NothingToRollBack(RegistryError):
    status = 409
    code = "nothing_to_roll_back"

    def __init__(self, reference: str) -> None:
        super().__init__(f"{reference} has never been anywhere else")


class LineageCycle(RegistryError):
    status = 409
    code = "lineage_cycle"

    def __init__(self, reference: str, parent: str) -> None:
        super().__init__(f"{parent} descends from {reference}: it can't be its parent too")


class MetadataTooLarge(RegistryError):
    status = 413
    code = "metadata_too_large"

    def __init__(self, what: str) -> None:
        super().__init__(f"there would be {what}")


class NameReserved(RegistryError):
    status = 409
    code = "name_reserved"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is the base model's name")


class InvalidSource(RegistryError):
    status = 400
    code = "invalid_source"


class SourceNotAllowed(RegistryError):
    status = 403
    code = "source_not_allowed"


class SourceDenied(RegistryError):
    status = 403
    code = "source_denied"


class SourceNotFound(RegistryError):
    status = 404
    code = "source_not_found"


class SourceTooLarge(RegistryError):
    status = 413
    code = "source_too_large"


class AddressNotAllowed(RegistryError):
    status = 403
    code = "address_not_allowed"

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is no public address, and in no network that may be called")


class HostUnknown(RegistryError):
    status = 422
    code = "host_unknown"

    def __init__(self, host: str) -> None:
        super().__init__(f"there is no address for the host {host!r}")


class InvalidUrl(RegistryError):
    status = 422
    code = "invalid_url"


class SourceUnsupported(RegistryError):
    status = 501
    code = "source_unsupported"


class SourceUnavailable(RegistryError):
    status = 502
    code = "source_unavailable"


class SourceTimeout(RegistryError):
    status = 504
    code = "source_timeout"

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(f"the adapter was not here after {limit_seconds:.0f} s")


class BodyTooLarge(RegistryError):
    """The request body is larger than we are willing to hold."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes")


class BodyTimeout(RegistryError):
    status = 408
    code = "body_timeout"

    def __init__(self) -> None:
        super().__init__("the request body did not come, or came too slowly")


class BodyTooDeep(RegistryError):
    status = 400
    code = "body_too_deep"

    def __init__(self, levels: int) -> None:
        super().__init__(f"the JSON of the request is nested deeper than {levels} levels")


class BodyNotText(RegistryError):
    status = 400
    code = "body_not_text"

    def __init__(self) -> None:
        super().__init__("the request body is not UTF-8, as JSON has to be")


class InvalidUpload(RegistryError):
    status = 400
    code = "invalid_upload"


class TooManyUploads(RegistryError):
    status = 429
    code = "too_many_uploads"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} uploads are under way already: try again later")


class InvalidArchive(RegistryError):
    """What is to be imported can't be; `code` names the defect."""

    status = 422

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ImportConflict(RegistryError):
    status = 409
    code = "import_conflict"

    def __init__(self, conflicts: Sequence[str]) -> None:
        shown = "; ".join(conflicts[:5])
        more = f"; and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        super().__init__(f"nothing was imported: {shown}{more}")


class InvalidAdapter(RegistryError):
    """The adapter's files can't be served as they are; `code` names the defect."""

    status = 422

    def __init__(self, code: Defect, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class UnknownJob(RegistryError):
    status = 404
    code = "unknown_job"

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no job {number}")


class JobFinished(RegistryError):
    status = 409
    code = "job_finished"

    def __init__(self, number: int, state: str) -> None:
        super().__init__(f"job {number} is {state} already")


class TooManyStreams(RegistryError):
    status = 503
    code = "too_many_streams"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} streams of events are open; come back when one has ended")


class EngineAway(RegistryError):
    status = 503
    code = "engine_unavailable"


class WarmingFailed(RegistryError):
    """`for_good`: the same files will never be loaded."""

    status = 503
    code = "warming_failed"

    def __init__(self, detail: str, *, for_good: bool = False) -> None:
        super().__init__(detail)
        if for_good:
            self.status = 422


class ProbeFailed(RegistryError):
    """`code` names what the probe found."""

    status = 422

    def __init__(self, reference: str, code: str) -> None:
        super().__init__(f"{reference} did not pass its probe: no alias was moved to it")
        self.code = code


class PromotionTimeout(RegistryError):
    status = 504
    code = "promotion_timeout"

    def __init__(self, reference: str, timeout_seconds: float) -> None:
        super().__init__(
            f"{reference} was not ready in the engine within {timeout_seconds:g} s: "
            "no alias was moved to it"
        )


class StoreUnavailable(RegistryError):
    status = 503
    code = "store_unavailable"
    retry_after_seconds = 5


class DatabaseUnavailable(RegistryError):
    status = 503
    code = "database_unavailable"
    retry_after_seconds = 1
