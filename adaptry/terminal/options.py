"""Options and arguments that many commands share: server, API key, adapter, version."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.client.transport import requests
from adaptry.terminal.completion import adapter_names, aliases_of, references, version_references

if TYPE_CHECKING:
    from adaptry.client import Client

DEFAULT_SERVER = requests.DEFAULT_SERVER
API_KEY = "ADAPTRY_API_KEY"
BRIEF_SECONDS = 2.0

Server = Annotated[
    str,
    typer.Option("--server", envvar="ADAPTRY_SERVER", metavar="URL", help="The server to talk to."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The adapter's name.", autocompletion=adapter_names)
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="NAME:VERSION", help="Such as upper:3.", autocompletion=version_references
    ),
]
Alias = Annotated[str, typer.Option(help="Which alias.", autocompletion=aliases_of)]
Reason = Annotated[str | None, typer.Option(help="Recorded with the event.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Has this tag; repeatable.")]
TextOption = Annotated[str | None, typer.Option("--text", help="Has words that begin with these.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE", help="name, name@alias or name:version.", autocompletion=references
    ),
]


def connect(server: str) -> "Client":
    """A client for a command, with the environment's API key. Raises InvalidServer."""
    from adaptry.client.client import CommandClient

    return CommandClient(server, api_key=os.environ.get(API_KEY) or None)


def connect_briefly(arguments: Sequence[str]) -> "Client":
    """For a hint after a refusal, with the server that the command line names."""
    from adaptry.client.client import CommandClient

    key = os.environ.get(API_KEY) or None
    return CommandClient(server_of(arguments), api_key=key, timeout_seconds=BRIEF_SECONDS)


def server_of(arguments: Sequence[str]) -> str:
    """The server of a command line that has not been parsed."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--server":
            return value if equals else "".join(arguments[place + 1 : place + 2])
    return os.environ.get("ADAPTRY_SERVER") or DEFAULT_SERVER


def show_help(context: typer.Context) -> None:
    """Callback of a command group that was called without a command."""
    if context.invoked_subcommand is None:
        print(context.get_help())
