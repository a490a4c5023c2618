"""What several commands share: their options, and help where a command is missing."""

from typing import Annotated

import typer

DEFAULT_SERVER = "http://127.0.0.1:8000"

Server = Annotated[
    str,
    typer.Option("--server", envvar="ADAPTRY_SERVER", metavar="URL", help="The server to talk to."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name.")]
Version = Annotated[str, typer.Argument(metavar="NAME:VERSION", help="Such as upper:3.")]
Alias = Annotated[str, typer.Option(help="Which alias.")]
Reason = Annotated[str | None, typer.Option(help="Kept with the event.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Has this tag; repeatable.")]
TextOption = Annotated[str | None, typer.Option("--text", help="Has words that begin so.")]
Reference = Annotated[
    str, typer.Argument(metavar="REFERENCE", help="name, name@alias or name:version.")
]


def show_help(context: typer.Context) -> None:
    """The callback of a group of commands that was called without one."""
    if context.invoked_subcommand is None:
        print(context.get_help())
