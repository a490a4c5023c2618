"""Response schemas of the overview."""

from pydantic import BaseModel

from registry.catalog.schemas import AdapterRead, WeightRead


class OverviewItem(AdapterRead):
    """An adapter as a row of a table.

    `version` is its default version, or its newest one if the alias `default` doesn't exist;
    `aliases`: the version with the largest weight of each; `splits`: the weights of those that
    point at several; `versions`: how many it has.
    """

    aliases: dict[str, int]
    splits: dict[str, list[WeightRead]] = {}  # noqa: RUF012  # pydantic copies it
    versions: int
    version: int | None
    state: str | None
    rank: int | None
    size_bytes: int | None
    version_tags: list[str]


class OverviewPage(BaseModel):
    """Rows from an offset, and how many rows there are in all.

    `as_of`: of an order that only the cache knows, which changes all the time: with it, further
    rows come in the same order. An order is kept for a while; if it is not, another one is sent.
    """

    items: list[OverviewItem]
    total: int
    as_of: str | None = None
