"""Errors of sources that adapters are fetched from."""

from registry.errors.base import RegistryError


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
        super().__init__(
            f"{host} is no public address, and in no network that may be called "
            "(ADAPTRY_ALLOWED_NETWORKS)"
        )


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


class InvalidRedirect(RegistryError):
    """A retry would be redirected to the same place."""

    status = 502
    code = "invalid_redirect"


class SourceUnavailable(RegistryError):
    status = 502
    code = "source_unavailable"


class SourceTimeout(RegistryError):
    status = 504
    code = "source_timeout"

    def __init__(self, seconds: float, what: str = "the adapter was not here after") -> None:
        super().__init__(f"{what} {seconds:.0f} s")
