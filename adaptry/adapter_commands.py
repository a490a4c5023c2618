"""`adaptry adapter …`: what the registry holds."""

from pathlib import Path
from typing import Annotated

import typer

from adaptry.errors import UsageError
from adaptry.jobs import pushed, registered
from adaptry.options import DEFAULT_SERVER, AsJson, Name, Server, show_help
from adaptry.output import show_fields, show_json, show_table, size, text
from adaptry.rest import Json, RestClient

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Register, list and promote adapters.",
)


@app.command()
def add(
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            help="A PEFT folder on the server's machine, or a URL: hf://ORG/REPO@REVISION, "
            "s3://BUCKET/FOLDER, gs://…, https://…"
        ),
    ],
    description: Annotated[str | None, typer.Option(help="A line for people.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Register a folder or a URL as the adapter's next version.

    The same files again are the same version.
    """
    located = source if "://" in source else str(Path(source).absolute())
    with RestClient(server) as client:
        version, is_new = registered(client, name, located, description)
    _show_registered(version, is_new, as_json)


@app.command()
def push(
    name: Name,
    source: Annotated[Path, typer.Argument(help="A PEFT folder here, or a tar of one.")],
    description: Annotated[str | None, typer.Option(help="A line for people.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Upload a folder of this machine as the adapter's next version."""
    files = [source] if source.is_file() else _adapter_files(source)
    with RestClient(server) as client:
        version, is_new = pushed(client, name, files, description)
    _show_registered(version, is_new, as_json)


@app.command("list")
def list_(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """All adapters."""
    with RestClient(server) as client:
        adapters = client.adapters()
    if as_json:
        show_json(adapters)
        return
    show_table(
        ("NAME", "CREATED", "DESCRIPTION"),
        [
            (text(a.get("name")), text(a.get("created_at"))[:16], text(a.get("description")))
            for a in adapters
        ],
    )


@app.command()
def show(name: Name, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """One adapter and where its aliases point."""
    with RestClient(server) as client:
        adapter = client.adapter(name)
        adapter["aliases"] = list(client.aliases(name))
    if as_json:
        show_json(adapter)
        return
    aliases = adapter.pop("aliases")
    show_fields(adapter)
    for alias in aliases if isinstance(aliases, list) else ():
        if isinstance(alias, dict):
            print(f"@{text(alias.get('alias'))} -> {text(alias.get('version'))}")


@app.command()
def versions(name: Name, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """All versions of one adapter."""
    with RestClient(server) as client:
        found = client.versions(name)
    if as_json:
        show_json(found)
        return
    show_table(
        ("REFERENCE", "STATE", "RANK", "SIZE", "DIGEST", "TARGET MODULES"),
        (
            (
                text(version.get("reference")),
                text(version.get("state")),
                text(version.get("rank")),
                size(version.get("size_bytes")),
                text(version.get("digest"))[:12],
                text(version.get("target_modules")),
            )
            for version in found
        ),
    )


@app.command()
def promote(
    reference: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="Such as upper:3.")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "default",
    reason: Annotated[str | None, typer.Option(help="Kept with the event.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version.

    Fails if somebody else moves the alias meanwhile.
    """
    name, _, number = reference.partition(":")
    if not number.isdecimal():
        raise UsageError(f"{reference!r} names no version: write NAME:VERSION, such as upper:3")
    with RestClient(server) as client:
        before = _target(client.aliases(name), alias)
        moved = client.move_alias(name, alias, int(number), before, reason)
    if as_json:
        show_json(moved)
    else:
        came_from = "" if before is None else f" (was {name}:{before})"
        print(f"{name}@{alias} -> {name}:{int(number)}{came_from}")


def _target(aliases: list[Json], alias: str) -> int | None:
    versions = (a.get("version") for a in aliases if a.get("alias") == alias)
    found = next(versions, None)
    return found if isinstance(found, int) else None


def _adapter_files(folder: Path) -> list[Path]:
    from registry.sources.intake import TAKEN_FILES

    files = [folder / name for name in TAKEN_FILES]
    for file in files:
        if not file.is_file():
            raise UsageError(f"there is no {file}: name a folder that PEFT saved, or a tar of one")
    return files


def _show_registered(version: Json, is_new: bool, as_json: bool) -> None:
    if as_json:
        show_json(version)
    else:
        what = "registered" if is_new else "already there"
        print(f"{text(version.get('reference'))}  {what}, {_summary(version)}")


def _summary(version: Json) -> str:
    return f"rank {text(version.get('rank'))}, {size(version.get('size_bytes'))}"
