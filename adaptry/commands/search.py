"""`adaptry adapter search | update`: what is said of adapters and versions, and found by it."""

import json
from collections.abc import Iterable
from typing import Annotated, cast

import typer

from adaptry.client import UNSET
from adaptry.client.models import AdapterRead, VersionRead, VersionState
from adaptry.client.transport.requests import Unset
from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, TagOption, connect
from adaptry.terminal.output import Json, show_fields, show_json, show_table, size, text


def search(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Words that begin so.")
    ] = None,
    tag: TagOption = None,
    state: Annotated[list[str] | None, typer.Option(help="One of these; repeatable.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Exactly this one.")] = None,
    target_module: Annotated[
        list[str] | None, typer.Option(help="Adapts this module; repeatable.")
    ] = None,
    rank_min: Annotated[int | None, typer.Option(min=1)] = None,
    rank_max: Annotated[int | None, typer.Option(min=1)] = None,
    parent: Annotated[str | None, typer.Option(help="Made from NAME:VERSION.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Versions of all adapters that meet every condition."""
    with connect(server) as client:
        found = list(
            client.versions.search(
                text=" ".join(words or ()) or None,
                tags=tag or (),
                states=cast("list[VersionState]", state or ()),  # the server says which there are
                target_modules=target_module or (),
                base_model=base_model,
                rank_min=rank_min,
                rank_max=rank_max,
                parent=parent,
            )
        )
    if as_json:
        show_json(found)
    else:
        show_versions(found)


def update(
    reference: Annotated[str, typer.Argument(metavar="NAME[:VERSION]")],
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    owner: Annotated[str | None, typer.Option(help="Of an adapter.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Add it; repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="Take it away; repeatable.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Metadata, as JSON or text; repeatable."),
    ] = None,
    parent: Annotated[str | None, typer.Option(help="The version it was made from.")] = None,
    training_run: Annotated[str | None, typer.Option(help="Where it was trained.")] = None,
    dataset: Annotated[str | None, typer.Option(help="What it was trained on.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Say something of an adapter or a version. An empty text takes away what was said."""
    is_version = ":" in reference
    of_versions = (parent, training_run, dataset)
    if is_version and owner is not None:
        raise UsageError("--owner is of adapters: name one without a version")
    if not is_version and any(value is not None for value in of_versions):
        raise UsageError("--parent, --training-run and --dataset are of a NAME:VERSION")
    content: AdapterRead | VersionRead
    with connect(server) as client:
        if is_version:
            content = client.versions.update(
                reference,
                description=_said(description),
                add_tags=tag or (),
                remove_tags=untag or (),
                metadata=_pairs(set_),
                parent=_said(parent),
                training_run=_said(training_run),
                dataset=_said(dataset),
            )
        else:
            content = client.adapters.update(
                reference,
                description=_said(description),
                owner=_said(owner),
                add_tags=tag or (),
                remove_tags=untag or (),
                metadata=_pairs(set_),
            )
    if as_json:
        show_json(content)
    else:
        show_fields(content)


COMMANDS = (search, update)


def show_versions(found: Iterable[VersionRead]) -> None:
    show_table(
        ("REFERENCE", "STATE", "RANK", "SIZE", "DIGEST", "TARGET MODULES", "TAGS"),
        (
            (
                version.reference,
                version.state,
                str(version.rank),
                size(version.size_bytes),
                version.digest[:12],
                text(version.target_modules),
                text(version.tags) or "-",
            )
            for version in found
        ),
    )


def _said(value: str | None) -> str | Unset | None:
    """What is left out stays, an empty text takes away."""
    return UNSET if value is None else value or None


def _refused(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _pairs(pairs: list[str] | None) -> Json:
    """`accuracy=0.9` → a number, `note=fine` → a text, `key=null` takes the key away."""
    found: Json = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is no KEY=VALUE")
        try:
            found[key] = json.loads(value, parse_constant=_refused)
        except ValueError:
            found[key] = value
    return found
