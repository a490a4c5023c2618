"""`adaptry manifest …`: Kubernetes objects on standard output."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.client import ApiError
from adaptry.commands.kubernetes_objects import (
    NoArtifact,
    duplicate_names,
    model_adapter,
    model_rewrite,
)
from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import Json, say, show_json
from registry.references import DEFAULT_ALIAS

if TYPE_CHECKING:
    from adaptry.client import Client

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Write adapters and aliases as Kubernetes objects.",
)

Adapters = Annotated[
    list[str] | None, typer.Option("--adapter", help="Only this adapter; may be repeated.")
]
Namespace = Annotated[str | None, typer.Option(help="In which namespace.")]


@app.command("inference-model-rewrite")
def inference_model_rewrite(
    pool: Annotated[str, typer.Option(help="The InferencePool of the servers.")],
    namespace: Namespace = None,
    adapter: Adapters = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Write aliases with their weights for llm-d's router, one object per adapter."""
    with connect(server) as client:
        found = [
            model_rewrite(name, aliases, pool, namespace)
            for name in _names(client, adapter)
            if (aliases := list(client.aliases.list(name)))
        ]
    _show(found, as_json)


@app.command("model-adapter")
def model_adapters(
    selector: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="A label of the pods; repeatable.")
    ],
    namespace: Namespace = None,
    adapter: Adapters = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Write the version that each adapter's name means now, for AIBrix.

    Adapters that no pod could fetch, or that are not served now, are left out with a note.
    """
    labels = dict(map(_label, selector))
    found = []
    with connect(server) as client:
        for name in _names(client, adapter):
            if all(alias.alias != DEFAULT_ALIAS for alias in client.aliases.list(name)):
                continue
            try:
                found.append(model_adapter(client.versions.resolve(name), labels, namespace))
            except NoArtifact as reason:
                print(f"left out: {name}: {reason}", file=sys.stderr)
            except ApiError as error:
                if not error.code.startswith("version_"):
                    raise
                print(f"left out: {error.detail}", file=sys.stderr)
    _show(found, as_json)


def _names(client: "Client", wanted: list[str] | None) -> list[str]:
    return wanted or [adapter.name for adapter in client.adapters.list()]


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--selector {text}: write KEY=VALUE")
    return key, value


def _show(objects: list[Json], as_json: bool) -> None:
    if twice := duplicate_names(objects):
        raise CommandError(f"several adapters would be called {twice[0]} on Kubernetes")
    if as_json:
        show_json(objects)
    elif objects:
        import yaml  # not needed by most commands

        print(yaml.safe_dump_all(objects, sort_keys=False), end="")
    else:
        say("there is nothing to write: `adaptry adapter list` shows the adapters and aliases")
