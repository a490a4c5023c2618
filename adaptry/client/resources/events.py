"""`client.events`: the log of changes to the registry."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from adaptry.client.models import EventKind, EventRead
from adaptry.client.transport.operations import Resource, download, pages, stream
from adaptry.client.transport.requests import NO_TIMEOUT, Parameters, format_time

T_co = TypeVar("T_co", covariant=True)


class Events(Resource[T_co]):
    """Query, follow and export events."""

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
    ) -> Parameters:
        """Events of the registry, the oldest first. Times need a zone."""
        return Parameters(
            query={
                "adapter": adapter,
                "kind": kinds,
                "actor": actor,
                "since": format_time(since),
                "until": format_time(until),
                "newest_first": newest_first,
                "limit": page_size,
            }
        )

    @pages("/api/v1/adapters/{name}/events", EventRead)
    def of_adapter(self, name: str, *, page_size: int = 100) -> Parameters:
        """Events of one adapter, the oldest first. Raises NotFound."""
        return Parameters({"name": name}, {"limit": page_size})

    @stream("/api/v1/events/stream", EventRead)
    def stream(
        self,
        *,
        adapter: str | None = None,
        kinds: Sequence[EventKind] = (),
        actor: str | None = None,
        after: int | None = None,
    ) -> Parameters:
        """Events as they happen, without end; reconnects as often as needed.

        Starts after the event `after` (0: with the first), else now. Raises NoAnswer if the first
        connection fails, or if there is none for a minute.
        """
        query = {"adapter": adapter, "kind": kinds, "actor": actor, "after": after}
        return Parameters(query=query)

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
    ) -> Parameters:
        """All events as lines of JSON, the oldest first, in chunks; needs the scope `admin`.

        `with client.events.export() as chunks: …`. Raises NoAnswer also if the connection is lost.
        """
        query = {"adapter": adapter, "kind": kinds, "after": after, "chain": chain}
        return Parameters(
            query=query | {"since": format_time(since), "until": format_time(until)},
            timeout_seconds=NO_TIMEOUT,
        )
