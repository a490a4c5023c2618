"""`client.adapters`: the names under which versions are published."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from adaptry.client.models import AdapterRead, VerdictRead
from adaptry.client.transport.operations import Group, operation, pages
from adaptry.client.transport.requests import UNSET, Given, Unset, changed

S_co = TypeVar("S_co", covariant=True)


class Adapters(Group[S_co]):
    """Find adapters, say something of them, ask whether files would become one."""

    @pages("/api/v1/adapters", AdapterRead)
    def list(
        self,
        *,
        text: str | None = None,
        tags: Sequence[str] = (),
        owner: str | None = None,
        page_size: int = 100,
    ) -> Given:
        """Adapters by name: all, or those that meet every condition.

        `text`: beginnings of words, all of them.
        """
        return Given(query={"text": text, "tag": tags, "owner": owner, "limit": page_size})

    @operation("GET", "/api/v1/adapters/{name}", AdapterRead)
    def get(self, name: str) -> Given:
        """One adapter. Raises NotFound."""
        return Given({"name": name})

    @operation("PATCH", "/api/v1/adapters/{name}", AdapterRead)
    def update(
        self,
        name: str,
        *,
        description: str | Unset | None = UNSET,
        owner: str | Unset | None = UNSET,
        tags: Sequence[str] | Unset = UNSET,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | Unset = UNSET,
    ) -> Given:
        """Change what is said of an adapter; what is left out stays, None takes away.

        `metadata` is merged key by key, and None removes a key. `tags` replaces all tags.
        """
        body = changed(
            description=description,
            owner=owner,
            tags=tags,
            add_tags=add_tags,
            remove_tags=remove_tags,
            metadata=metadata,
        )
        return Given({"name": name}, body=body)

    @operation("POST", "/api/v1/inspect", VerdictRead)
    def inspect(self, source: str) -> Given:
        """Whether these files would be accepted, and all that is wrong with them.

        `source`: a PEFT folder on the server's machine. Registers nothing.
        """
        return Given(body={"source": source})
