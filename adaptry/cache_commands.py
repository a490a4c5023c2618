"""`adaptry cache …`: which adapters are resident where."""

from typing import Annotated, Literal

import typer

from adaptry.options import DEFAULT_SERVER, AsJson, Reference, Server, show_help
from adaptry.output import show_json, show_table, size, text
from adaptry.rest import Json, RestClient, items

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="See and steer what is in GPU slots and host memory.",
)


@app.command()
def show(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Both tiers, the next victim first."""
    with RestClient(server) as client:
        cache = client.cache()
    if as_json:
        show_json(cache)
        return
    slots, capacity = text(cache.get("slots")), text(cache.get("host_capacity"))
    gpu, host = items(cache, "gpu"), items(cache, "host")
    loading = text(cache.get("loading")) or "-"
    print(f"GPU slots {len(gpu)} of {slots}, host {len(host)} of {capacity}")
    print(f"requests waiting {text(cache.get('waiting'))}, loading {loading}")
    if host or gpu:
        print()
        show_table(
            ("TIER", "REFERENCE", "RANK", "SIZE", "PINNED", "LEASES", "HITS"),
            [*(_row("gpu", entry) for entry in gpu), *(_row("host", entry) for entry in host)],
        )


def _row(tier: str, entry: Json) -> tuple[str, ...]:
    return (
        tier,
        text(entry.get("reference")),
        text(entry.get("rank")),
        size(entry.get("size_bytes")),
        text(entry.get("pinned")),
        text(entry.get("leases")),
        text(entry.get("hits")),
    )


@app.command()
def pin(
    reference: Reference,
    tier: Annotated[Literal["gpu", "host"], typer.Option(help="Where to keep it.")] = "gpu",
    ttl: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds after which the pin ends.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Load an adapter and keep it until it is unpinned, or for a time."""
    with RestClient(server) as client:
        pinned = client.pin(reference, tier, ttl)
    end = "" if ttl is None else f" until {text(pinned.get('expires_at'))}"
    _done(pinned, f"{reference} pinned in the {tier} tier{end}", as_json)


@app.command()
def pins(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """What is pinned, the oldest first."""
    with RestClient(server) as client:
        kept = client.pins()
    if as_json:
        show_json(kept)
        return
    show_table(
        ("REFERENCE", "TIER", "UNTIL"),
        [(text(p.get("reference")), text(p.get("tier")), text(p.get("expires_at"))) for p in kept],
    )


@app.command()
def unpin(reference: Reference, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Let an adapter be put out again."""
    with RestClient(server) as client:
        _done(client.unpin(reference), f"{reference} unpinned", as_json)


@app.command()
def prefetch(
    reference: Reference, server: Server = DEFAULT_SERVER, as_json: AsJson = False
) -> None:
    """Bring an adapter into host memory before anybody asks for it."""
    with RestClient(server) as client:
        _done(client.prefetch(reference), f"{reference} is on its way into host memory", as_json)


@app.command()
def evict(
    reference: Reference,
    wait: Annotated[bool, typer.Option("--wait", help="Until nobody uses it any more.")] = False,
    force: Annotated[bool, typer.Option("--force", help="End the requests that use it.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Put an adapter that nobody uses out of both tiers."""
    with RestClient(server) as client:
        answer = client.evict(reference, wait=wait, force=force)
    was_there = "evicted" if answer.get("evicted") else "was on disk only"
    _done(answer, f"{reference} {was_there}", as_json)


def _done(answer: Json, sentence: str, as_json: bool) -> None:
    if as_json:
        show_json(answer)
    else:
        print(sentence)
