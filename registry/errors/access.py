"""Errors of keys, tenants and limits."""

from collections.abc import Sequence
from enum import StrEnum

from registry.errors.base import RegistryError


class KeyRefusal(StrEnum):
    """Why a key was refused. Clients get less detail."""

    MISSING = "missing"
    MALFORMED = "malformed"  # not Bearer, or not in the form of a key
    UNKNOWN = "unknown"  # no such key, or another secret
    EXPIRED = "expired"
    REVOKED = "revoked"
    SCOPE = "scope"  # valid, but without the scope
    PLATFORM = "platform"  # a tenant's key on a platform-only route


class Limit(StrEnum):
    """Resource that a limit is about; also a metrics label and a word in errors."""

    REQUESTS_IN_FLIGHT = "requests_in_flight"
    SLOTS = "slots"
    HOST_BYTES = "host_bytes"
    PINS = "pins"
    STORAGE_BYTES = "storage_bytes"
    REGISTRATIONS_PER_HOUR = "registrations_per_hour"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    BYTES_PER_MINUTE = "bytes_per_minute"


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
        """`refusal` is for the operator only: it would help an attacker."""
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
        """`name` None: a tenant's key named something without the tenant."""
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
    """With `retry_after_seconds`, a retry may succeed after that."""

    status = 409
    code = "tenant_limit"

    def __init__(self, limit: Limit, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.status = 429


class RateLimitExceeded(RegistryError):
    """OpenAI's code. Without `retry_after_seconds` it asks for more than a whole minute allows."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self, subject: str, unit: str, most: int, asked: int, retry_after_seconds: int | None
    ) -> None:
        limit = f"the {subject} may use {most} {unit} in a minute"
        if retry_after_seconds is None:
            super().__init__(f"{limit}, and this request alone asks for {asked}")
        else:
            super().__init__(f"{limit}: try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


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


class TooManyKeys(RegistryError):
    status = 409
    code = "too_many_keys"

    def __init__(self, tenant: str, limit: int) -> None:
        super().__init__(f"the tenant {tenant!r} has {limit} valid keys: revoke one first")


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
