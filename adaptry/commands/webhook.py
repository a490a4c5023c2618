"""`adaptry webhook …`: delivery of events to other systems."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import show_json, show_table, text

if TYPE_CHECKING:
    from adaptry.client.models import EventKind, WebhookRead

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Send events of the registry to other systems.",
)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `webhook list` shows it.")]


State = Literal["pending", "delivered", "failed"]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to POST each event.")],
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Only about this adapter; may be repeated.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A line of free text.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Send every event from now on to an endpoint.

    Prints the secret of its signatures, which is shown only once.
    """
    with connect(server) as client:
        added = client.webhooks.add(
            url,
            kinds=cast("list[EventKind]", kind or ()),  # the server checks them
            adapters=adapter or (),
            description=description,
        )
    if as_json:
        show_json(added)
    else:
        print(f"webhook {added.id}  secret {added.secret}")


@app.command("list")
def list_(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List all webhooks with their state."""
    with connect(server) as client:
        webhooks = list(client.webhooks.list())
    if as_json:
        show_json(webhooks)
        return
    show_table(
        ("ID", "URL", "KINDS", "ADAPTERS", "PENDING", "STATE"),
        (
            (
                str(webhook.id),
                webhook.url,
                text(webhook.kinds) or "all",
                text(webhook.adapters) or "all",
                str(webhook.pending),
                _state(webhook),
            )
            for webhook in webhooks
        ),
        empty="no webhooks yet: `adaptry webhook add URL` makes one",
    )


@app.command("test")
def send_test(webhook: Id, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Send a test message and print the outcome."""
    with connect(server) as client:
        delivery = client.webhooks.test(webhook)
    if as_json:
        show_json(delivery)
    elif delivery.state == "delivered":
        print(f"delivered, HTTP {text(delivery.status_code)}")
    if delivery.state != "delivered":
        raise CommandError(f"not delivered: {text(delivery.error)}")


@app.command()
def enable(webhook: Id, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Enable a webhook again; events that it missed are delivered."""
    with connect(server) as client:
        enabled = client.webhooks.change(webhook, enabled=True)
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
    """Create a new secret, which is shown only once."""
    with connect(server) as client:
        rotated = client.webhooks.rotate_secret(webhook, keep_hours=keep_hours)
    if as_json:
        show_json(rotated)
    else:
        until = text(rotated.previous_valid_until)
        print(f"webhook {webhook}  secret {rotated.secret}  (the old one until {until})")


@app.command()
def remove(webhook: Id, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Delete a webhook and its deliveries."""
    with connect(server) as client:
        client.webhooks.remove(webhook)
    if as_json:
        show_json({"id": webhook, "removed": True})
    else:
        print(f"webhook {webhook} is removed")


@app.command()
def deliveries(
    webhook: Id,
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """List past and pending deliveries, the newest first."""
    with connect(server) as client:
        recent = client.webhooks.deliveries(webhook, state=state, page_size=limit)
        found = list(islice(recent, limit))
    if as_json:
        show_json(found)
        return
    show_table(
        ("ID", "KIND", "STATE", "ATTEMPTS", "CREATED", "ERROR"),
        (
            (
                str(delivery.id),
                delivery.kind,
                delivery.state,
                str(delivery.attempts),
                text(delivery.created_at),
                text(delivery.error),
            )
            for delivery in found
        ),
        empty=f"none is {state}"
        if state
        else f"none yet: `adaptry webhook test {webhook}` sends one",
    )


def _state(webhook: "WebhookRead") -> str:
    if not webhook.enabled:
        return f"disabled: {text(webhook.disabled_reason)}"
    return f"failing, {webhook.failures} in a row" if webhook.failures else "ok"
