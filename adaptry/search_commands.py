"""`adaptry adapter search | update`: what is said of adapters and versions, and found by it."""

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from adaptry.errors import UsageError
from adaptry.options import DEFAULT_SERVER, AsJson, Server, TagOption
from adaptry.output import show_fields, show_json, show_table, size, text
from adaptry.rest import Json, JsonValue, RestClient
from adaptry.rest_paths import API, adapter_path, version_path


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
    conditions: dict[str, str | int | list[str] | None] = {
        "text": " ".join(words or ()),
        "tag": tag,
        "state": state,
        "base_model": base_model,
        "target_module": target_module,
        "rank_min": rank_min,
        "rank_max": rank_max,
        "parent": parent,
    }
    query = {key: value for key, value in conditions.items() if value}
    with RestClient(server) as client:
        found = list(client.pages(f"{API}/versions", query))
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
    texts = {
        "description": description,
        "owner": owner,
        "parent": parent,
        "training_run": training_run,
        "dataset": dataset,
    }
    body: Json = {key: value or None for key, value in texts.items() if value is not None}
    lists: Json = {"add_tags": _list(tag), "remove_tags": _list(untag), "metadata": _pairs(set_)}
    body |= {key: value for key, value in lists.items() if value}
    path = version_path(reference) if ":" in reference else adapter_path(reference)
    with RestClient(server) as client:
        content = client.call("PATCH", path, body)[1]
    if as_json:
        show_json(content)
    else:
        show_fields(content)


COMMANDS = (search, update)


def show_versions(found: Iterable[Json]) -> None:
    show_table(
        ("REFERENCE", "STATE", "RANK", "SIZE", "DIGEST", "TARGET MODULES", "TAGS"),
        (
            (
                text(version.get("reference")),
                text(version.get("state")),
                text(version.get("rank")),
                size(version.get("size_bytes")),
                text(version.get("digest"))[:12],
                text(version.get("target_modules")),
                text(version.get("tags")) or "-",
            )
            for version in found
        ),
    )


def _list(values: list[str] | None) -> list[JsonValue]:
    return list(values or ())


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
