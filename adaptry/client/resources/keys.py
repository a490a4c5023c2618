"""`client.keys`: who may ask this server for what."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeVar

from adaptry.client.models import KeyCreated, KeyRead
from adaptry.client.transport.operations import Group, operation, pages
from adaptry.client.transport.requests import Given, given, moment

S_co = TypeVar("S_co", covariant=True)

Scope = Literal["infer", "publish", "operate", "admin"]


class Keys(Group[S_co]):
    """Make API keys, rotate and revoke them. Needs the scope `admin`."""

    @pages("/api/v1/keys", KeyRead)
    def list(self, *, page_size: int = 100) -> Given:
        """All keys, the oldest first, revoked ones too."""
        return Given(query={"limit": page_size})

    @operation("POST", "/api/v1/keys", KeyCreated)
    def create(
        self, name: str, scopes: Sequence[Scope], *, expires_at: datetime | None = None
    ) -> Given:
        """Make a key. Keep it: it is shown only here."""
        expires = moment(expires_at)
        return Given(body=given(name=name, scopes=list(scopes), expires_at=expires))

    @operation("GET", "/api/v1/keys/{name}", KeyRead)
    def get(self, name: str) -> Given:
        """One key."""
        return Given({"name": name})

    @operation("POST", "/api/v1/keys/{name}/rotate", KeyCreated)
    def rotate(self, name: str, *, keep_hours: float | None = None) -> Given:
        """Give it a new secret. For a while the old one is good too."""
        return Given({"name": name}, body=given(keep_hours=keep_hours))

    @operation("DELETE", "/api/v1/keys/{name}", KeyRead)
    def revoke(self, name: str) -> Given:
        """Refuse it from now on."""
        return Given({"name": name})
