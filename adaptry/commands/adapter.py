"""`adaptry adapter …`: the adapters and versions of the registry."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.adapters.local_inspection import inspect_here, inspect_there_or_here
from adaptry.commands import adapter_list
from adaptry.commands import alias as alias_commands
from adaptry.commands import base as base_commands
from adaptry.commands import lifecycle as lifecycle_commands
from adaptry.commands import search as search_commands
from adaptry.commands import transfer as transfer_commands
from adaptry.terminal.completion import version_references
from adaptry.terminal.errors import CommandError
from adaptry.terminal.job_progress import push as push_files
from adaptry.terminal.job_progress import register
from adaptry.terminal.options import (
    DEFAULT_SERVER,
    AsJson,
    Name,
    Reference,
    Server,
    connect,
    show_help,
)
from adaptry.terminal.output import (
    plain,
    show_fields,
    show_json,
    show_remarks,
    show_verdict,
    size,
)

if TYPE_CHECKING:
    from adaptry.client import Registration
    from adaptry.client.models import VersionRead

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Register, find, promote and retire adapters.",
)


@app.command()
def add(
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A PEFT folder on the server's machine, or a URL: hf://ORG/REPO@REVISION, "
            "s3://BUCKET/FOLDER, gs://…, azure://…, mlflow:/NAME@ALIAS, oci://…, https://…",
        ),
    ],
    description: Annotated[str | None, typer.Option(help="A line of free text.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Register a folder or a URL as the adapter's next version.

    Registering the same files again gives the same version.
    """
    from registry.sources.urls import is_url

    located = source if is_url(source) else str(Path(source).absolute())
    with connect(server) as client:
        done = register(client, name, located, description)
    _show_registered(done, as_json)


@app.command()
def push(
    name: Name,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A local PEFT folder, or a tar of one.")
    ],
    description: Annotated[str | None, typer.Option(help="A line of free text.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Upload a local folder as the adapter's next version."""
    with connect(server) as client:
        done = push_files(client, name, source, description)
    _show_registered(done, as_json)


@app.command()
def pull(
    reference: Reference,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new local folder.")],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Download a version's files, and verify that they are what was registered."""
    from adaptry.client import unpack_version

    if folder.exists():
        raise CommandError(f"{folder} already exists: choose another name or remove it")
    with connect(server) as client:
        find = client.versions.get if ":" in reference else client.versions.resolve
        version = find(reference)
        with client.versions.download(version.reference) as chunks:
            written = unpack_version(chunks, version.digest, folder)
    if as_json:
        show_json({"reference": version.reference, "folder": str(folder), "size_bytes": written})
    else:
        print(f"{version.reference}  {folder}  {size(written)}")


@app.command()
def inspect(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A PEFT folder, on the server's machine or on this one."
        ),
    ],
    here: Annotated[
        bool, typer.Option("--here", help="Inspect on this machine, without asking a server.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Check whether a folder would be accepted, and list everything that is wrong with it.

    Registers nothing. What the server can't read, or --here, is inspected on this machine: without
    the base model, whose shapes are then not compared. Exits with 1 if it would be refused.
    """
    if here:
        verdict = inspect_here(source)
    else:
        with connect(server) as client:
            verdict = inspect_there_or_here(client, source)
    if as_json:
        show_json(verdict)
    else:
        show_verdict(verdict)
    if not verdict.accepted:
        raise typer.Exit(1)


@app.command()
def show(
    reference: Annotated[
        str, typer.Argument(metavar="NAME[:VERSION]", autocompletion=version_references)
    ],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Show one adapter and where its aliases point, or one version."""
    with connect(server) as client:
        if ":" in reference:
            version = client.versions.get(reference)
            _show(version, as_json)
            return
        adapter = client.adapters.get(reference)
        aliases = list(client.aliases.list(reference))
    if as_json:
        show_json({**adapter.model_dump(mode="json"), "aliases": plain(aliases)})
        return
    show_fields(adapter)
    for alias in aliases:
        print(f"@{alias.alias} -> {alias_commands.target(alias)}")


def _show(version: "VersionRead", as_json: bool) -> None:
    if as_json:
        show_json(version)
    else:
        show_fields(version)


@app.command()
def versions(name: Name, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List all versions of one adapter."""
    with connect(server) as client:
        found = list(client.versions.list(name))
    if as_json:
        show_json(found)
        return
    search_commands.show_versions(found, empty=f"{name} has no versions yet")


def _show_registered(done: "Registration", as_json: bool) -> None:
    version = done.version
    if as_json:
        show_json(version)
    else:
        what = "registered" if done.is_new else "already there"
        summary = f"rank {version.rank}, {size(version.size_bytes)}"
        print(f"{version.reference}  {what}, {summary}")
        show_remarks(version.inspection)


app.command("list")(adapter_list.list_)
app.command("recheck")(base_commands.recheck)
for _command in (*alias_commands.COMMANDS, *lifecycle_commands.COMMANDS, *search_commands.COMMANDS):
    app.command()(_command)
app.command("export")(transfer_commands.export_registry)
app.command("import")(transfer_commands.import_registry)
