"""`client.events`: who changed what in the registry."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from adaptry.client.models import EventKind, EventRead
from adaptry.client.transport.operations import Group, download, pages, stream
from adaptry.client.transport.requests import Given, moment

S_co = TypeVar("S_co", covariant=True)


class Events(Group[S_co]):
    """Look events up and follow them."""

    @pages("/api/v1/events", EventRead)
    def list(
        self,
        *,
        adapter: str | None = None,
        kinds: Sequence[EventKind] = (),
        actor: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        newest_first: bool = False,
        page_size: int = 100,
    ) -> Given:
        """What happened in the registry, the oldest first. Times have to have a zone."""
        return Given(
            query={
                "adapter": adapter,
                "kind": kinds,
                "actor": actor,
                "since": moment(since),
                "until": moment(until),
                "newest_first": newest_first,
                "limit": page_size,
            }
        )

    @pages("/api/v1/adapters/{name}/events", EventRead)
    def of_adapter(self, name: str, *, page_size: int = 100) -> Given:
        """What happened to an adapter, the oldest first. Raises NotFound."""
        return Given({"name": name}, {"limit": page_size})

    @stream("/api/v1/events/stream", EventRead)
    def stream(
        self,
        *,
        adapter: str | None = None,
        kinds: Sequence[EventKind] = (),
        actor: str | None = None,
        after: int | None = None,
    ) -> Given:
        """Events as they happen, without end, over as many connections as it takes.

        Begins after the event `after` (0: with the first), else now. Raises NoAnswer if there is
        no connection at first, or none for a minute.
        """
        query = {"adapter": adapter, "kind": kinds, "actor": actor, "after": after}
        return Given(query=query)

    @download("/api/v1/events/export")
    def export(
        self,
        *,
        adapter: str | None = None,
        kinds: Sequence[EventKind] = (),
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        after: int | None = None,
        chain: str | None = None,
    ) -> Given:
        """All events as lines of JSON, the oldest first, in chunks; needs the scope `admin`.

        `with client.events.export() as chunks: …`. Raises NoAnswer also when it breaks off.
        """
        query = {"adapter": adapter, "kind": kinds, "since": moment(since), "until": moment(until)}
        return Given(query={**query, "after": after, "chain": chain})
