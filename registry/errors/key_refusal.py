"""Why a key was refused."""

from enum import StrEnum


class KeyRefusal(StrEnum):
    """Why a key was no good. A client is told less."""

    MISSING = "missing"
    MALFORMED = "malformed"  # not Bearer, or not in the form of a key
    UNKNOWN = "unknown"  # no such key, or another secret
    EXPIRED = "expired"
    REVOKED = "revoked"
    SCOPE = "scope"  # a good one, but not for this
    PLATFORM = "platform"  # a tenant's, for what is the platform's
