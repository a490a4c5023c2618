"""`adaptry key …`: API keys and their scopes."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.limits import RATES, format_limits, limit_names, parse_limits
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import moment, show_json, show_table, text
from adaptry.terminal.rates import show_rates

if TYPE_CHECKING:
    from adaptry.client.models import KeyCreated, KeyRead
    from adaptry.client.resources.keys import Scope as ScopeName

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="API keys and their scopes.",
)


def whoami(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show whose key is in use, and what it may do. The key itself is never shown."""
    with connect(server) as client:
        caller = client.keys.whoami()
    if as_json:
        show_json(caller)
        return
    print(f"name     {caller.name}")
    print(f"tenant   {caller.tenant or 'none: the platform'}")
    print(f"scopes   {', '.join(caller.scopes)}")
    print(f"key      {f'{caller.prefix}…' if caller.prefix else 'none: this server asks for none'}")
    if caller.prefix:
        print(f"expires  {moment(caller.expires_at) if caller.expires_at else 'never'}")


KeyName = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, such as its user's.")]


@app.command()
def create(
    name: KeyName,
    scope: Annotated[
        list[str], typer.Option(help="infer, publish, operate or admin; may be repeated.")
    ],
    days: Annotated[
        float | None,
        typer.Option(min=0.001, max=36500, help="Days until it expires [default: never]."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=N", help=f"{limit_names(RATES)}; may be repeated."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Write to this database, without a server: for the first key."
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is printed only once, and stored only as a hash."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    limits = {
        field: value
        for field, value in parse_limits(limit or [], RATES).items()
        if isinstance(value, int)
    }
    if database is not None:
        import asyncio

        key, shown = asyncio.run(_create_in_database(database, name, scope, expires_at, limits))
        if as_json:
            show_json(shown)
        else:
            print(key)
        return
    with connect(server) as client:
        made = client.keys.create(
            name, cast("list[ScopeName]", scope), expires_at=expires_at, **limits
        )
    _show_made(made, as_json)


async def _create_in_database(
    url: str,
    name: str,
    scopes: list[str],
    expires_at: datetime | None,
    limits: dict[str, int],
) -> tuple[str, dict[str, object]]:
    import asyncio

    from pydantic import ValidationError

    from adaptry.commands.database import upgrade_database
    from registry.api.access.key_schemas import KeyCreate, key_created
    from registry.auth.client_address import LOCAL, from_address
    from registry.auth.keys import KeyService
    from registry.database.engine import Database
    from registry.errors import RegistryError
    from registry.validation import explain

    try:
        wanted = KeyCreate.model_validate(
            {"name": name, "scopes": scopes, "expires_at": expires_at, **limits}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {explain(first)}") from error
    await asyncio.to_thread(upgrade_database, url)
    opened = Database(url)
    try:
        with from_address(LOCAL):
            key, row = await KeyService(opened).create(
                wanted.name,
                wanted.scopes,
                actor="command line",
                expires_at=wanted.expires_at,
                limits=wanted.limits(),
            )
    except RegistryError as error:
        raise CommandError(f"{error.detail} [{error.code}]") from error
    finally:
        await opened.close()
    return key, key_created(key, row).model_dump(mode="json")


@app.command("list")
def list_(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List all keys, also revoked ones. None is shown in full."""
    with connect(server) as client:
        keys = list(client.keys.list())
    if as_json:
        show_json(keys)
        return
    titles = ("NAME", "SCOPES", "PREFIX", "LAST USED", "EXPIRES", "STATE", "LIMITS")
    none = "no keys yet: `adaptry key create NAME --scope admin` makes the first one"
    show_table(titles, map(_row, keys), empty=none)


def _row(key: "KeyRead") -> tuple[str, ...]:
    return (
        key.name,
        text([str(scope) for scope in key.scopes]),
        key.prefix,
        moment(key.last_used_at),
        moment(key.expires_at),
        _state(key),
        format_limits(key, RATES) or "-",
    )


def _state(key: "KeyRead") -> str:
    if key.revoked_at is not None:
        return "revoked"
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if expired else "valid"


@app.command()
def rates(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show what each key with limits per minute has used of them."""
    with connect(server) as client:
        found = list(client.keys.rates())
    none = "no key has limits: `adaptry key limit NAME requests_per_minute=N` sets one"
    show_rates(found, as_json, empty=none)


@app.command()
def limit(
    name: KeyName,
    change: Annotated[
        list[str], typer.Argument(metavar="NAME=N", help="As for `key create`; repeatable.")
    ],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Change limits; those not named stay. `NAME=none` removes one."""
    limits = parse_limits(change, RATES)
    with connect(server) as client:
        key = client.keys.change(name, **limits)
    if as_json:
        show_json(key)
    else:
        print(f"{key.name}  {format_limits(key, RATES) or 'no limits'}")


@app.command()
def rotate(
    name: KeyName,
    keep_hours: Annotated[
        float, typer.Option(min=0, max=720, help="How long the old secret stays valid.")
    ] = 24.0,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret. It is printed only once."""
    with connect(server) as client:
        made = client.keys.rotate(name, keep_hours=keep_hours)
    _show_made(made, as_json)


@app.command()
def revoke(name: KeyName, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Refuse a key from now on."""
    with connect(server) as client:
        revoked = client.keys.revoke(name)
    if as_json:
        show_json(revoked)
    else:
        print(f"{name} is revoked")


def _show_made(made: "KeyCreated", as_json: bool) -> None:
    if as_json:
        show_json(made)
    else:
        print(made.key)
