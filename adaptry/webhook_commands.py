"""`adaptry webhook …`: who is told of events."""

from enum import StrEnum
from typing import Annotated

import typer

from adaptry.errors import CommandError
from adaptry.options import DEFAULT_SERVER, AsJson, Server, show_help
from adaptry.output import show_json, show_table, text
from adaptry.rest import Json, RestClient, items
from adaptry.rest_paths import API

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Tell other systems of what happens in the registry.",
)

WEBHOOKS = f"{API}/webhooks"

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `webhook list` shows it.")]


class State(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to POST each event.")],
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Only about this adapter; may be repeated.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A line for people.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Tell an endpoint of every event from now on.

    Prints the secret of its signatures, which is shown only this once.
    """
    webhook: Json = {"url": url, "kinds": [*(kind or ())], "adapters": [*(adapter or ())]}
    if description is not None:
        webhook["description"] = description
    with RestClient(server) as client:
        added = client.call("POST", WEBHOOKS, webhook)[1]
    if as_json:
        show_json(added)
    else:
        print(f"webhook {text(added.get('id'))}  secret {text(added.get('secret'))}")


@app.command("list")
def list_(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """All webhooks and how they do."""
    with RestClient(server) as client:
        webhooks = list(client.pages(WEBHOOKS))
    if as_json:
        show_json(webhooks)
        return
    show_table(
        ("ID", "URL", "KINDS", "ADAPTERS", "PENDING", "STATE"),
        (
            (
                text(webhook.get("id")),
                text(webhook.get("url")),
                text(webhook.get("kinds")) or "all",
                text(webhook.get("adapters")) or "all",
                text(webhook.get("pending")),
                _state(webhook),
            )
            for webhook in webhooks
        ),
    )


@app.command("test")
def send_test(webhook: Id, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Send a message about nothing and say what came of it."""
    with RestClient(server) as client:
        delivery = client.call("POST", f"{WEBHOOKS}/{webhook}/test")[1]
    if as_json:
        show_json(delivery)
    elif delivery.get("state") == "delivered":
        print(f"delivered, HTTP {text(delivery.get('status_code'))}")
    if delivery.get("state") != "delivered":
        raise CommandError(f"not delivered: {text(delivery.get('error'))}")


@app.command()
def enable(webhook: Id, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Enable a webhook again; it is told what it missed."""
    with RestClient(server) as client:
        enabled = client.call("PATCH", f"{WEBHOOKS}/{webhook}", {"enabled": True})[1]
    if as_json:
        show_json(enabled)
    else:
        print(f"webhook {webhook} is enabled")


@app.command()
def rotate(
    webhook: Id,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="How long to sign with the old secret too.")
    ] = 24.0,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Make a new secret, which is shown only this once."""
    with RestClient(server) as client:
        body: Json = {"keep_hours": keep_hours}
        rotated = client.call("POST", f"{WEBHOOKS}/{webhook}/rotate-secret", body)[1]
    if as_json:
        show_json(rotated)
    else:
        until = text(rotated.get("previous_valid_until"))[:16]
        print(
            f"webhook {webhook}  secret {text(rotated.get('secret'))}  (the old one until {until})"
        )


@app.command()
def remove(webhook: Id, server: Server = DEFAULT_SERVER) -> None:
    """Forget a webhook and its deliveries."""
    with RestClient(server) as client:
        client.call("DELETE", f"{WEBHOOKS}/{webhook}")
    print(f"webhook {webhook} is removed")


@app.command()
def deliveries(
    webhook: Id,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """What was or is to be delivered, the newest first."""
    with RestClient(server) as client:
        query: dict[str, str | int] = {"limit": limit} | ({"state": state} if state else {})
        found = items(client.call("GET", f"{WEBHOOKS}/{webhook}/deliveries", query=query)[1])
    if as_json:
        show_json(found)
        return
    show_table(
        ("ID", "KIND", "STATE", "ATTEMPTS", "CREATED", "ERROR"),
        (
            (
                text(delivery.get("id")),
                text(delivery.get("kind")),
                text(delivery.get("state")),
                text(delivery.get("attempts")),
                text(delivery.get("created_at"))[:19],
                text(delivery.get("error")),
            )
            for delivery in found
        ),
    )


def _state(webhook: Json) -> str:
    if not webhook.get("enabled"):
        return f"disabled: {text(webhook.get('disabled_reason'))}"
    failures = webhook.get("failures")
    return f"failing, {text(failures)} in a row" if failures else "ok"
