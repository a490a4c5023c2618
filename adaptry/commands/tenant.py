"""`adaptry tenant …`: tenants, their limits, and grants of adapters to other tenants."""

from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.terminal.limits import RATES, format_limits, limit_names, parse_limits
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import moment, show_json, show_table
from adaptry.terminal.rates import show_rates

if TYPE_CHECKING:
    from adaptry.client.models import TenantRead, TenantUsageRead

LIMITS = (
    "max_requests_in_flight",
    "max_slots",
    "max_host_bytes",
    "max_pins",
    "max_storage_bytes",
    "max_registrations_per_hour",
    *RATES,
)

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Tenants: separate namespaces of adapters, with limits.",
)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="As `tenant list` shows it.")]
Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="Such as acme~support.")]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=N",
        help=f"{limit_names(LIMITS)}; N may be `none`.",
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case, digits, `-`.")],
    limit: Limits = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Create a tenant. Its adapters and keys are named NAME~…"""
    limits = parse_limits(limit or [], LIMITS)
    with connect(server) as client:
        _show(client.tenants.create(name, **limits), as_json)


@app.command("list")
def list_(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List all tenants."""
    with connect(server) as client:
        tenants = list(client.tenants.list())
    if as_json:
        show_json(tenants)
        return
    rows = ((t.name, moment(t.created_at), format_limits(t, LIMITS) or "none") for t in tenants)
    none = "no tenants yet: `adaptry tenant create NAME` makes one"
    show_table(("NAME", "CREATED", "LIMITS"), rows, empty=none)


@app.command()
def show(tenant: Tenant, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show one tenant, its limits and its usage."""
    with connect(server) as client:
        found = client.tenants.get(tenant)
    _show(found, as_json)
    if not as_json:
        used = found.usage.model_dump()
        show_table(("USES", ""), ((name, str(value)) for name, value in used.items()))


@app.command()
def rates(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show what each tenant with limits per minute has used of them."""
    with connect(server) as client:
        found = list(client.tenants.rates())
    none = "no tenant has limits per minute: `adaptry tenant limit TENANT requests_per_minute=N`"
    show_rates(found, as_json, empty=f"{none} sets one")


@app.command()
def limit(
    tenant: Tenant,
    change: Annotated[
        list[str], typer.Argument(metavar="NAME=N", help="As for `tenant create`; repeatable.")
    ],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Change limits; those not named stay."""
    limits = parse_limits(change, LIMITS)
    with connect(server) as client:
        _show(client.tenants.change(tenant, **limits), as_json)


@app.command()
def delete(tenant: Tenant, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Remove a tenant that has neither adapters nor valid keys."""
    with connect(server) as client:
        client.tenants.delete(tenant)
    _print(f"{tenant} is removed", {"tenant": tenant}, as_json)


@app.command()
def grant(
    adapter: Adapter, tenant: Tenant, server: Server = DEFAULT_SERVER, as_json: AsJson = False
) -> None:
    """Let a tenant use an adapter that is not its own."""
    with connect(server) as client:
        made = client.tenants.grant(adapter, tenant)
    _print(f"{tenant} may use {adapter}", made, as_json)


@app.command()
def revoke(
    adapter: Adapter, tenant: Tenant, server: Server = DEFAULT_SERVER, as_json: AsJson = False
) -> None:
    """Withdraw a grant."""
    with connect(server) as client:
        client.tenants.revoke(adapter, tenant)
    _print(f"{tenant} may not use {adapter}", {"adapter": adapter, "tenant": tenant}, as_json)


@app.command()
def grants(adapter: Adapter, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List the tenants that may use an adapter besides its own."""
    with connect(server) as client:
        found = list(client.tenants.grants(adapter))
    if as_json:
        show_json(found)
        return
    rows = ((g.tenant, moment(g.granted_at), g.granted_by) for g in found)
    none = f"no other tenant may use it: `adaptry tenant grant {adapter} TENANT` lets one"
    show_table(("TENANT", "GRANTED", "BY"), rows, empty=none)


def _print(text: str, answer: object, as_json: bool) -> None:
    if as_json:
        show_json(answer)
    else:
        print(text)


def _show(tenant: "TenantRead | TenantUsageRead", as_json: bool) -> None:
    if as_json:
        show_json(tenant)
    else:
        print(f"{tenant.name}  {format_limits(tenant, LIMITS) or 'no limits'}")
