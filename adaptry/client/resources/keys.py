"""`client.keys`: API keys and their scopes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeVar

from adaptry.client.models import CallerRead, KeyCreated, KeyRead, RateUsageRead
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

Limit = int | Unset | None
Scope = Literal["infer", "publish", "operate", "admin"]


class Keys(Resource[T_co]):
    """Create, rotate and revoke API keys. Needs the scope `admin`, but for `whoami`."""

    @operation("GET", "/api/v1/whoami", CallerRead)
    def whoami(self) -> Parameters:
        """The caller: its name, tenant, scopes, and when its key expires."""
        return Parameters()

    @pages("/api/v1/keys", KeyRead)
    def list(self, *, page_size: int = 100) -> Parameters:
        """All keys, the oldest first, revoked ones too."""
        return Parameters(query={"limit": page_size})

    @pages("/api/v1/rates/keys", RateUsageRead)
    def rates(self, *, page_size: int = 100) -> Parameters:
        """What each key with limits per minute has used of them."""
        return Parameters(query={"limit": page_size})

    @operation("POST", "/api/v1/keys", KeyCreated)
    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        expires_at: datetime | None = None,
        max_requests_per_minute: int | None = None,
        max_tokens_per_minute: int | None = None,
        max_bytes_per_minute: int | None = None,
    ) -> Parameters:
        """Create a key. Store it: it is shown only here."""
        body = without_none(
            name=name,
            scopes=list(scopes),
            expires_at=format_time(expires_at),
            max_requests_per_minute=max_requests_per_minute,
            max_tokens_per_minute=max_tokens_per_minute,
            max_bytes_per_minute=max_bytes_per_minute,
        )
        return Parameters(body=body)

    @operation("GET", "/api/v1/keys/{name}", KeyRead)
    def get(self, name: str) -> Parameters:
        """One key."""
        return Parameters({"name": name})

    @operation("PATCH", "/api/v1/keys/{name}", KeyRead)
    def change(
        self,
        name: str,
        *,
        max_requests_per_minute: Limit = UNSET,
        max_tokens_per_minute: Limit = UNSET,
        max_bytes_per_minute: Limit = UNSET,
    ) -> Parameters:
        """Change the given limits. None removes one."""
        body = without_unset(
            max_requests_per_minute=max_requests_per_minute,
            max_tokens_per_minute=max_tokens_per_minute,
            max_bytes_per_minute=max_bytes_per_minute,
        )
        return Parameters({"name": name}, body=body)

    @operation("POST", "/api/v1/keys/{name}/rotate", KeyCreated)
    def rotate(self, name: str, *, keep_hours: float | None = None) -> Parameters:
        """Give a key a new secret. The old one stays valid for `keep_hours`."""
        return Parameters({"name": name}, body=without_none(keep_hours=keep_hours))

    @operation("DELETE", "/api/v1/keys/{name}", KeyRead)
    def revoke(self, name: str) -> Parameters:
        """Refuse a key from now on."""
        return Parameters({"name": name})
