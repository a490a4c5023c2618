"""Hidden tenants: a keyed hash in place of each name, the same wherever it stands."""

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from registry.references import tenant_of

_LENGTH = 12


class HiddenTenants:
    """Names are hidden from all who do not have the key: without it, guesses can't be checked.

    What follows the tenant in an adapter's name stays.
    """

    def __init__(self, key: bytes) -> None:
        self._hash = lru_cache(100_000)(
            lambda name: hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:_LENGTH]
        )

    def hide(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """The line without them."""
        hidden = dict(line)
        if (tenant := line.get("tenant")) is not None:
            hidden["tenant"] = self._name(tenant)
        if (adapter := line.get("adapter")) is not None:
            owner = tenant_of(adapter)
            if owner is not None:
                hidden["adapter"] = self._name(owner) + adapter[len(owner) :]
        return hidden

    def _name(self, tenant: str) -> str:
        return f"t-{self._hash(tenant)}"
