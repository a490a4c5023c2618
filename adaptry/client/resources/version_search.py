"""Search and metadata of versions."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from adaptry.client.models import VersionRead, VersionState
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import (
    UNSET,
    Parameters,
    QueryValue,
    Unset,
    parse_version,
    without_unset,
)

T_co = TypeVar("T_co", covariant=True)


class VersionSearch(Resource[T_co]):
    """The part of `client.versions` that finds and describes them."""

    @pages("/api/v1/adapters/{name}/versions", VersionRead)
    def list(
        self,
        name: str,
        *,
        text: str | None = None,
        tags: Sequence[str] = (),
        states: Sequence[VersionState] = (),
        target_modules: Sequence[str] = (),
        base_model: str | None = None,
        base: str | None = None,
        rank_min: int | None = None,
        rank_max: int | None = None,
        parent: str | None = None,
        page_size: int = 100,
    ) -> Parameters:
        """The versions of an adapter, the oldest first: all, or those that meet every condition."""
        query: dict[str, QueryValue] = {"text": text, "tag": tags, "state": states}
        query |= {"target_module": target_modules, "base_model": base_model, "base": base}
        query |= {"rank_min": rank_min, "rank_max": rank_max, "parent": parent}
        return Parameters({"name": name}, {**query, "limit": page_size})

    @pages("/api/v1/versions", VersionRead)
    def search(
        self,
        *,
        text: str | None = None,
        tags: Sequence[str] = (),
        states: Sequence[VersionState] = (),
        target_modules: Sequence[str] = (),
        base_model: str | None = None,
        base: str | None = None,
        rank_min: int | None = None,
        rank_max: int | None = None,
        parent: str | None = None,
        page_size: int = 100,
    ) -> Parameters:
        """Versions of all adapters that meet every condition, in the order of registration.

        `text`: beginnings of words, all of them; `tags` and `target_modules`: all of them;
        `states`: one of them; `parent`: derived from it, such as `support:2`; `base`: bound to this
        base model.
        """
        query: dict[str, QueryValue] = {"text": text, "tag": tags, "state": states}
        query |= {"target_module": target_modules, "base_model": base_model, "base": base}
        query |= {"rank_min": rank_min, "rank_max": rank_max, "parent": parent}
        return Parameters(query={**query, "limit": page_size})

    @operation("GET", "/api/v1/adapters/{name}/versions/{number}", VersionRead)
    def get(self, reference: str) -> Parameters:
        """One version. Raises NotFound, and InvalidReference unless it is `name:3`."""
        return Parameters(parse_version(reference))

    @operation("PATCH", "/api/v1/adapters/{name}/versions/{number}", VersionRead)
    def update(
        self,
        reference: str,
        *,
        description: str | Unset | None = UNSET,
        tags: Sequence[str] | Unset = UNSET,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | Unset = UNSET,
        parent: str | Unset | None = UNSET,
        training_run: str | Unset | None = UNSET,
        dataset: str | Unset | None = UNSET,
    ) -> Parameters:
        """Change a version's metadata; its content never changes.

        Parameters left out stay, None clears. `metadata` is merged key by key.
        """
        body = without_unset(
            description=description,
            tags=tags,
            add_tags=add_tags,
            remove_tags=remove_tags,
            metadata=metadata,
            parent=parent,
            training_run=training_run,
            dataset=dataset,
        )
        return Parameters(parse_version(reference), body=body)
