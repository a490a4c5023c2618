"""`adaptry adapter list`: adapters with versions, aliases, place in memory and last use."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adaptry.client import NotFound, Unauthorized
from adaptry.commands.alias import split
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, TagOption, TextOption, connect
from adaptry.terminal.output import moment, show_json, show_table, text

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import AdapterRead, OverviewItem, ResidentRead

Sort = Literal[
    "name",
    "created",
    "used",
    "owner",
    "version",
    "state",
    "rank",
    "size",
    "versions",
    "aliases",
    "tags",
    "description",
    "memory",
    "asked",
    "hits",
]
SHOWN = 100
ROWS_AT_ONCE = 100  # in one request
NONE_YET = "no adapters yet: `adaptry adapter add NAME FOLDER` registers one"
NO_ADAPTER = "no adapter meets these conditions"


@dataclass(frozen=True, slots=True)
class Use:
    """Where one of an adapter's versions is, and when a request last held it."""

    tier: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """A column of the server's table, and the direction."""

    column: str
    descending: bool


def list_(
    text_: TextOption = None,
    tag: TagOption = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Only with versions for this base model.")
    ] = None,
    sort: Annotated[
        Sort,
        typer.Option(
            help="By a column of the console's table; created: the newest first; asked, or used: "
            "the last used first; memory: those in slots first."
        ),
    ] = "name",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"How many [default: {SHOWN}; with --json all].")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """List adapters, or those that meet every condition.

    IN: the tier where one of its versions is now. USED: when a request last held one that is there.
    memory, asked and hits, which only the cache knows, need the scope operate; adapters that it
    doesn't know come last.
    """
    shown = limit if limit is not None or as_json else SHOWN
    with connect(server) as client:
        found: Iterator[AdapterRead | OverviewItem]
        if sort == "name" and not (reverse or text_ or tag):
            found = iter(client.adapters.list(owner=owner, base=base))  # misses and repeats none
        else:
            order = Order("asked" if sort == "used" else sort, reverse != (sort == "created"))
            found = _read_in_order(
                client, order, text=text_, tags=tag or (), owner=owner, base=base
            )
        uses = {} if as_json else _uses(client)
        adapters = list(islice(found, None if shown is None else shown + 1))
        more = shown is not None and len(adapters) > shown
        adapters = adapters[:shown]
        if as_json:
            show_json(adapters)
            return
        show_table(
            (
                "NAME",
                "VERSIONS",
                "ALIASES",
                "IN",
                "USED",
                "OWNER",
                "CREATED",
                "TAGS",
                "DESCRIPTION",
            ),
            _rows(client, adapters, uses),
            empty=NO_ADAPTER if any((text_, tag, owner, base)) else NONE_YET,
        )
    if more:
        print(f"there are more: --limit N shows more than {shown}", file=sys.stderr)


def _rows(
    client: "Client", adapters: "Sequence[AdapterRead | OverviewItem]", uses: dict[str, Use]
) -> list[tuple[str, ...]]:
    return [_row(each, uses.get(each.name)) for each in _in_parts(client, adapters)]


def _in_parts(
    client: "Client", adapters: "Sequence[AdapterRead | OverviewItem]"
) -> "Iterator[OverviewItem]":
    """The adapters with their aliases and numbers of versions, but for those deleted meanwhile."""
    for begin in range(0, len(adapters), ROWS_AT_ONCE):
        names = [adapter.name for adapter in adapters[begin : begin + ROWS_AT_ONCE]]
        found = client.adapters.overview(names=names, limit=ROWS_AT_ONCE)
        by_name = {item.name: item for item in found.items}
        yield from (by_name[name] for name in names if name in by_name)


def _row(item: "OverviewItem", use: Use | None) -> tuple[str, ...]:
    splits = {alias: split(weights) for alias, weights in item.splits.items()}
    aliases = [f"{alias}={splits.get(alias, n)}" for alias, n in item.aliases.items()]
    return (
        item.name,
        str(item.versions),
        text(aliases) or "-",
        use.tier if use else "-",
        moment(use.at) if use else "-",
        text(item.owner),
        moment(item.created_at),
        text(item.tags) or "-",
        text(item.description),
    )


def _uses(client: "Client") -> dict[str, Use]:
    """By adapter. Empty where there is no cache, or it may not be seen."""
    try:
        cache = client.cache.show()
    except (NotFound, Unauthorized):
        return {}
    now, found = datetime.now(UTC), dict[str, Use]()
    for tier, residents in (("host", cache.host), ("gpu", cache.gpu)):
        for each in residents:
            _add(found, tier, each, now)
    return found


def _add(found: dict[str, Use], tier: str, each: "ResidentRead", now: datetime) -> None:
    name = each.reference.partition(":")[0]
    at = now - timedelta(seconds=each.idle_seconds)
    before = found.get(name)
    found[name] = Use(tier, at if before is None else max(at, before.at))


def _read_in_order(client: "Client", order: Order, **conditions: Any) -> "Iterator[OverviewItem]":
    """Each once, in the order of the console's table, though that may move on meanwhile."""
    seen: set[str] = set()
    as_of = None
    for offset in count(0, ROWS_AT_ONCE):
        page = client.adapters.overview(
            **conditions,
            sort=order.column,
            descending=order.descending,
            offset=offset,
            limit=ROWS_AT_ONCE,
            as_of=as_of,
        )
        as_of = page.as_of
        for item in page.items:
            if item.name not in seen:
                seen.add(item.name)
                yield item
        if len(page.items) < ROWS_AT_ONCE:
            return
