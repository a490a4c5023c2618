"""`adaptry cache …`: inspect and control resident adapters."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptry.commands import why as why_commands
from adaptry.terminal.engines import engines_down
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Reference, Server, connect, show_help
from adaptry.terminal.output import show_json, show_table, size, text
from adaptry.top.history import history

if TYPE_CHECKING:
    from adaptry.client.models import ResidentRead, ResponseModel

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Inspect and control what is in GPU slots and host memory.",
)


Replicas = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="On how many of several engines [default: all]."),
]
_COLUMNS = ("TIER", "REFERENCE", "RANK", "SIZE", "PINNED", "LEASES", "HITS")


@app.command()
def show(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show both tiers, the next victim first."""
    with connect(server) as client:
        cache = client.cache.show()
    if as_json:
        show_json(cache)
        return
    slots, places = (
        f"{len(cache.gpu) + cache.hidden['gpu']} of {cache.slots}",
        f"{len(cache.host) + cache.hidden['host']} of {cache.host_capacity}",
    )
    for line in engines_down(cache):
        print(line)
    print(f"GPU slots {slots}, host {places}")
    print(f"requests waiting {cache.waiting}, loading {text(cache.loading) or '-'}")
    if cache.host or cache.gpu:
        print()
        of_several = bool(cache.replicas)
        rows = [("gpu", each) for each in cache.gpu] + [("host", each) for each in cache.host]
        show_table(
            (*_COLUMNS, *(["REPLICA"] if of_several else [])),
            [
                (*_row(tier, each), *([text(each.replica)] if of_several else []))
                for tier, each in rows
            ],
        )


def _row(tier: str, entry: "ResidentRead") -> tuple[str, ...]:
    return (
        tier,
        entry.reference,
        str(entry.rank),
        size(entry.host_bytes),
        text(entry.pinned),
        str(entry.leases),
        str(entry.hits),
    )


@app.command()
def pin(
    reference: Reference,
    tier: Annotated[Literal["gpu", "host"], typer.Option(help="The tier to pin it in.")] = "gpu",
    ttl: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds after which the pin ends.")
    ] = None,
    replicas: Replicas = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Load an adapter and keep it in memory until it is unpinned, or for a time."""
    with connect(server) as client:
        pinned = client.cache.pin(reference, tier, ttl_seconds=ttl, replicas=replicas)
    end = "" if ttl is None else f" until {text(pinned.expires_at)}"
    _done(pinned, f"{reference} pinned in the {tier} tier{end}", as_json)


@app.command()
def pins(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List the pins, the oldest first."""
    with connect(server) as client:
        pinned = list(client.cache.pins())
    if as_json:
        show_json(pinned)
        return
    show_table(
        ("REFERENCE", "TIER", "UNTIL", "REPLICAS"),
        [
            (each.reference, each.tier, text(each.expires_at), text(each.replicas or "all"))
            for each in pinned
        ],
        empty="nothing is pinned: `adaptry cache pin NAME` pins an adapter",
    )


@app.command()
def unpin(reference: Reference, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Allow an adapter to be evicted again."""
    with connect(server) as client:
        _done(client.cache.unpin(reference), f"{reference} unpinned", as_json)


@app.command()
def servers(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List every server on the database with what it has pinned and in host memory."""
    with connect(server) as client:
        found = client.cache.servers()
    if as_json:
        show_json(found)
        return
    show_table(
        ("SERVER", "BASE", "STARTED", "PINS", "RESIDENTS"),
        [
            (
                f"{each.name} (this one)" if each.is_this else each.name,
                text(each.base),
                text(each.started_at),
                text([pin.reference for pin in each.pins]) or "-",
                text(each.residents) or "-",
            )
            for each in found.items
        ],
    )


@app.command()
def forget(
    name: Annotated[str, typer.Argument(metavar="SERVER")],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Forget a server that will not come back, with its pins."""
    with connect(server) as client:
        client.cache.forget_server(name)
    if as_json:
        show_json({"forgotten": name})
    else:
        print(f"{name} forgotten")


@app.command()
def prefetch(
    reference: Reference,
    replicas: Replicas = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Load an adapter into host memory before a request needs it."""
    with connect(server) as client:
        coming = client.cache.prefetch(reference, replicas=replicas)
    _done(coming, f"{reference} is loading into host memory", as_json)


@app.command()
def evict(
    reference: Reference,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until no request uses it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="End the requests that use it.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Evict an adapter that no request uses from both tiers."""
    with connect(server) as client:
        answer = client.cache.evict(reference, wait=wait, force=force)
    was_there = "evicted" if answer.evicted else "was on disk only"
    _done(answer, f"{reference} {was_there}", as_json)


for _command in (*why_commands.COMMANDS, history):
    app.command()(_command)


def _done(answer: "ResponseModel", sentence: str, as_json: bool) -> None:
    if as_json:
        show_json(answer)
    else:
        print(sentence)
