"""What the registry refuses, each with its HTTP status and a code that never changes.

RegistryError
├── InvalidReference     400  not `name`, `name@alias` or `name:3`
├── InvalidPageToken     400
├── UnknownAdapter       404
├── UnknownVersion       404
├── UnknownAlias         404
├── VersionNotServable   409  retired, quarantined, still pending, …
├── AliasMoved           409  somebody moved it first (compare-and-set)
├── NameReserved         409  the base model's name
├── InvalidSource        400  neither a path nor a URL that we read
├── SourceNotAllowed     403  outside the configured roots, URLs and networks
├── SourceDenied         403  the other side wants credentials, or other ones
├── SourceNotFound       404
├── SourceTooLarge       413  too many bytes or too many files
├── AddressNotAllowed    403  a private, local or otherwise special address
├── HostUnknown          422  its name has no address
├── SourceUnsupported    501  a package that it needs is not installed
├── SourceUnavailable    502  the other side does not answer as it should; tried again
├── SourceTimeout        504
├── InvalidUpload        400  the request's body is not what it says
├── TooManyUploads       429
├── InvalidAdapter       422  what inspection found; the code says what
├── UnknownJob           404
├── JobFinished          409  too late to cancel it
├── StoreUnavailable     503  the disk
└── DatabaseUnavailable  503
"""


class RegistryError(Exception):
    """Base of the tree. `code` is for programs, `detail` for people."""

    status = 500
    code = "registry_error"

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

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(f"adapter {name!r} has no alias {alias!r}")


class VersionNotServable(RegistryError):
    status = 409
    code = "version_not_servable"

    def __init__(self, reference: str, state: str) -> None:
        super().__init__(f"{reference} is {state}")


class AliasMoved(RegistryError):
    status = 409
    code = "alias_moved"

    def __init__(self, reference: str, expected: int | None, found: int | None) -> None:
        super().__init__(f"{reference} is at version {found}, not {expected}: read it again first")


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


class InvalidUpload(RegistryError):
    status = 400
    code = "invalid_upload"


class TooManyUploads(RegistryError):
    status = 429
    code = "too_many_uploads"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} uploads are under way already: try again later")


class InvalidAdapter(RegistryError):
    """The adapter's files can't be served as they are; `code` names the defect."""

    status = 422

    def __init__(self, code: str, detail: str) -> None:
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


class StoreUnavailable(RegistryError):
    status = 503
    code = "store_unavailable"


class DatabaseUnavailable(RegistryError):
    status = 503
    code = "database_unavailable"
