"""`client.adapters`: adapters, the named series of versions."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from adaptry.client.models import AdapterRead, OverviewPage, VerdictRead
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import UNSET, Parameters, QueryValue, Unset, without_unset

T_co = TypeVar("T_co", covariant=True)


class Adapters(Resource[T_co]):
    """Find and describe adapters, and check whether files would be accepted as one."""

    @pages("/api/v1/adapters", AdapterRead)
    def list(
        self,
        *,
        text: str | None = None,
        tags: Sequence[str] = (),
        owner: str | None = None,
        base: str | None = None,
        page_size: int = 100,
    ) -> Parameters:
        """Adapters by name: all, or those that meet every condition.

        `text`: beginnings of words, all of them. `base`: with a version that is bound to this base
        model.
        """
        query: dict[str, QueryValue] = {"text": text, "tag": tags, "owner": owner, "base": base}
        return Parameters(query={**query, "limit": page_size})

    @operation("GET", "/api/v1/overview", OverviewPage)
    def overview(
        self,
        *,
        text: str | None = None,
        tags: Sequence[str] = (),
        owner: str | None = None,
        base: str | None = None,
        state: str | None = None,
        tenant: str | None = None,
        names: Sequence[str] = (),
        memory: str | None = None,
        sort: str = "name",
        descending: bool = False,
        offset: int = 0,
        limit: int = 100,
        as_of: str | None = None,
    ) -> Parameters:
        """Part of a table of adapters with their aliases and default versions, and the total.

        `text`: each word is a part of the name, or begins a word elsewhere. `memory`: `in` or
        `pinned`. `sort`: name, created, owner, version, state, rank, size, versions, aliases, tags
        or description; memory, asked or hits, which only the cache knows: `as_of` of one part
        reads another one in the same order.
        """
        query: dict[str, QueryValue] = {"text": text, "tag": tags, "owner": owner, "base": base}
        more: dict[str, QueryValue] = {"state": state, "tenant": tenant, "name": names}
        place: dict[str, QueryValue] = {"sort": sort, "descending": descending, "offset": offset}
        order: dict[str, QueryValue] = {"memory": memory, "as_of": as_of}
        return Parameters(query={**query, **more, **place, **order, "limit": limit})

    @operation("GET", "/api/v1/adapters/{name}", AdapterRead)
    def get(self, name: str) -> Parameters:
        """One adapter. Raises NotFound."""
        return Parameters({"name": name})

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
        serve_chat_template: bool | Unset = UNSET,
        serve_sampling_defaults: bool | Unset = UNSET,
    ) -> Parameters:
        """Change an adapter's metadata; parameters left out stay, None clears.

        `metadata` is merged key by key, and None removes a key. `tags` replaces all tags.
        `serve_chat_template`, `serve_sampling_defaults`: whether requests get what the version was
        trained with instead of the base model's.
        """
        body = without_unset(
            description=description,
            owner=owner,
            tags=tags,
            add_tags=add_tags,
            remove_tags=remove_tags,
            metadata=metadata,
            serve_chat_template=serve_chat_template,
            serve_sampling_defaults=serve_sampling_defaults,
        )
        return Parameters({"name": name}, body=body)

    @operation("POST", "/api/v1/inspect", VerdictRead)
    def inspect(self, source: str) -> Parameters:
        """Whether these files would be accepted, and everything that is wrong with them.

        `source`: a PEFT folder on the server's machine. Registers nothing.
        """
        return Parameters(body={"source": source})
