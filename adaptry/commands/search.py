"""`adaptry adapter search | update`: metadata of adapters and versions, and search by it."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adaptry.client import UNSET
from adaptry.client.transport.requests import Unset
from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, TagOption, connect
from adaptry.terminal.output import Json, show_fields, show_json, show_table, size, text

if TYPE_CHECKING:
    from adaptry.client.models import AdapterRead, VersionRead, VersionState


def search(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="Beginning of a word; repeatable.")
    ] = None,
    tag: TagOption = None,
    state: Annotated[
        list[str] | None, typer.Option(help="In one of these states; repeatable.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Exactly what the configuration calls the base model.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Bound to this base model.")] = None,
    target_module: Annotated[
        list[str] | None, typer.Option(help="Adapts this module; repeatable.")
    ] = None,
    rank_min: Annotated[int | None, typer.Option(min=1)] = None,
    rank_max: Annotated[int | None, typer.Option(min=1)] = None,
    parent: Annotated[str | None, typer.Option(help="Derived from NAME:VERSION.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Find versions of all adapters that meet every condition."""
    with connect(server) as client:
        found = list(
            client.versions.search(
                text=" ".join(words or ()) or None,
                tags=tag or (),
                states=cast("list[VersionState]", state or ()),  # the server checks them
                target_modules=target_module or (),
                base_model=base_model,
                base=base,
                rank_min=rank_min,
                rank_max=rank_max,
                parent=parent,
            )
        )
    if as_json:
        show_json(found)
    else:
        show_versions(found, empty="no version meets these conditions")


def update(
    reference: Annotated[str, typer.Argument(metavar="NAME[:VERSION]")],
    description: Annotated[str | None, typer.Option(help="Free text.")] = None,
    owner: Annotated[str | None, typer.Option(help="Owner of an adapter.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Add this tag; repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="Remove this tag; repeatable.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Metadata, as JSON or text; repeatable."),
    ] = None,
    parent: Annotated[str | None, typer.Option(help="The version it is derived from.")] = None,
    training_run: Annotated[str | None, typer.Option(help="Where it was trained.")] = None,
    dataset: Annotated[str | None, typer.Option(help="What it was trained on.")] = None,
    serve_chat_template: Annotated[
        bool | None,
        typer.Option(
            "--serve-chat-template/--no-serve-chat-template",
            help="Whether chats with an adapter use the version's own chat template.",
        ),
    ] = None,
    serve_sampling_defaults: Annotated[
        bool | None,
        typer.Option(
            "--serve-sampling-defaults/--no-serve-sampling-defaults",
            help="Whether requests get the defaults of the version's generation_config.json.",
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Change the metadata of an adapter or a version. An empty value clears a field."""
    is_version = ":" in reference
    of_versions = (parent, training_run, dataset)
    of_adapters = (owner, serve_chat_template, serve_sampling_defaults)
    if is_version and any(value is not None for value in of_adapters):
        raise UsageError("--owner and --serve-… apply to adapters: name one without a version")
    if not is_version and any(value is not None for value in of_versions):
        raise UsageError("--parent, --training-run and --dataset apply to a NAME:VERSION")
    content: AdapterRead | VersionRead
    with connect(server) as client:
        if is_version:
            content = client.versions.update(
                reference,
                description=_clearable(description),
                add_tags=tag or (),
                remove_tags=untag or (),
                metadata=_pairs(set_),
                parent=_clearable(parent),
                training_run=_clearable(training_run),
                dataset=_clearable(dataset),
            )
        else:
            content = client.adapters.update(
                reference,
                description=_clearable(description),
                owner=_clearable(owner),
                add_tags=tag or (),
                remove_tags=untag or (),
                metadata=_pairs(set_),
                serve_chat_template=_value_or_unset(serve_chat_template),
                serve_sampling_defaults=_value_or_unset(serve_sampling_defaults),
            )
    if as_json:
        show_json(content)
    else:
        show_fields(content)


COMMANDS = (search, update)


def show_versions(found: "Iterable[VersionRead]", *, empty: str) -> None:
    show_table(
        ("REFERENCE", "STATE", "KIND", "RANK", "SIZE", "DIGEST", "BASE", "TARGET MODULES", "TAGS"),
        (
            (
                version.reference,
                version.state,
                version.kind,
                str(version.rank),
                size(version.size_bytes),
                version.digest[:12],
                text(version.base) or "-",
                text(version.target_modules),
                text(version.tags) or "-",
            )
            for version in found
        ),
        empty=empty,
    )


def _clearable(value: str | None) -> str | Unset | None:
    """Left out: unchanged; an empty text: None, which clears the field."""
    return UNSET if value is None else value or None


def _value_or_unset(value: bool | None) -> bool | Unset:
    return UNSET if value is None else value


def _reject_constant(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _pairs(pairs: list[str] | None) -> Json:
    """`accuracy=0.9` → a number, `note=fine` → a text, `key=null` removes the key."""
    found: Json = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is no KEY=VALUE")
        try:
            found[key] = json.loads(value, parse_constant=_reject_constant)
        except ValueError:
            found[key] = value
    return found
