"""Format of an API key: `adp_<public id>_<secret>`. Only a hash of the secret is stored.

The secret has 256 random bits, so a fast hash is enough. The prefix lets secret scanners find a key
that was published by mistake.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_PATTERN = re.compile(r"adp_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """The two parts of a key sent by a client; the secret as its hash."""

    public_id: str
    secret_hash: str

    def matches(self, stored_hash: str) -> bool:
        """Constant-time comparison."""
        return hmac.compare_digest(self.secret_hash, stored_hash)


def new_key() -> tuple[str, PresentedKey]:
    """The key's text, to be shown once, and the parts to store."""
    text = f"adp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
    presented = parse_key(text)
    assert presented is not None
    return text, presented


def parse_key(text: str) -> PresentedKey | None:
    """None if the text is not formatted as a key."""
    if (match := _PATTERN.fullmatch(text)) is None:
        return None
    return PresentedKey(match[1], hashlib.sha256(match[2].encode()).hexdigest())
