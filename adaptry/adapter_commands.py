"""`adaptry adapter …`: what the registry holds."""

from pathlib import Path
from typing import Annotated

import typer

from adaptry import alias_commands, lifecycle_commands, search_commands
from adaptry.errors import UsageError
from adaptry.jobs import pushed, registered
from adaptry.options import (
    DEFAULT_SERVER,
    AsJson,
    Name,
    Server,
    TagOption,
    TextOption,
    show_help,
)
from adaptry.output import show_fields, show_json, show_table, size, text
from adaptry.rest import Json, RestClient, items
from adaptry.rest_paths import version_path
from adaptry.verdict import show_verdict

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


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(help="A PEFT folder on the server's machine.")],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Say whether a folder would be accepted, and all that is wrong with it.

    Registers nothing. Exits with 1 if it would be refused.
    """
    with RestClient(server) as client:
        verdict = client.inspect(str(source.absolute()))
    if as_json:
        show_json(verdict)
    else:
        show_verdict(verdict)
    if verdict.get("accepted") is not True:
        raise typer.Exit(1)


@app.command("list")
def list_(
    text_: TextOption = None,
    tag: TagOption = None,
    owner: Annotated[str | None, typer.Option(help="Whose they are.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """All adapters, or those that meet every condition."""
    conditions = {"text": text_, "tag": tag, "owner": owner}
    with RestClient(server) as client:
        adapters = client.adapters({key: value for key, value in conditions.items() if value})
    if as_json:
        show_json(adapters)
        return
    show_table(
        ("NAME", "OWNER", "CREATED", "TAGS", "DESCRIPTION"),
        [
            (
                text(a.get("name")),
                text(a.get("owner")),
                text(a.get("created_at"))[:16],
                text(a.get("tags")) or "-",
                text(a.get("description")),
            )
            for a in adapters
        ],
    )


@app.command()
def show(
    reference: Annotated[str, typer.Argument(metavar="NAME[:VERSION]")],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """One adapter and where its aliases point, or one version."""
    with RestClient(server) as client:
        if ":" in reference:
            shown = client.call("GET", version_path(reference))[1]
        else:
            shown = client.adapter(reference)
            shown["aliases"] = list(client.aliases(reference))
    if as_json:
        show_json(shown)
        return
    aliases = items(shown, "aliases")
    shown.pop("aliases", None)
    show_fields(shown)
    for alias in aliases:
        print(f"@{text(alias.get('alias'))} -> {alias_commands.target(alias)}")


@app.command()
def versions(name: Name, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """All versions of one adapter."""
    with RestClient(server) as client:
        found = client.versions(name)
    if as_json:
        show_json(found)
        return
    search_commands.show_versions(found)


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


for _command in (*alias_commands.COMMANDS, *lifecycle_commands.COMMANDS, *search_commands.COMMANDS):
    app.command()(_command)
