"""`adaptry diff`: what differs between two versions."""

from datetime import datetime
from typing import TYPE_CHECKING

from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Reference, Server, connect
from adaptry.terminal.output import Json, moment, show_json, show_table, size, text

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import VersionRead

_DIGITS = 12  # of a digest, as `adapter versions` shows it
_NOT_COMPARED = frozenset({"adapter", "number", "reference"})


def diff(
    first: Reference,
    second: Reference,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: files, ranks, modules, base model, metadata."""
    with connect(server) as client:
        one, other = _version(client, first), _version(client, second)
    found = differences(one, other)
    if as_json:
        show_json({"first": one.reference, "second": other.reference, "differences": found})
        return
    if one.digest == other.digest:
        print(f"{one.reference} and {other.reference} have the same files")
    if not found:
        return
    rows = [(name, _format(name, a), _format(name, b)) for name, (a, b) in found.items()]
    show_table(("FIELD", one.reference, other.reference), rows)


def differences(one: "VersionRead", other: "VersionRead") -> dict[str, list[object]]:
    """Both values of each field that differs; those of the inspection by their own names."""
    left, right = _flat(one), _flat(other)
    names = dict.fromkeys([*left, *right])
    return {
        name: [left.get(name), right.get(name)]
        for name in names
        if name not in _NOT_COMPARED and left.get(name) != right.get(name)
    }


def _version(client: "Client", reference: str) -> "VersionRead":
    find = client.versions.get if ":" in reference else client.versions.resolve
    return find(reference)


def _flat(version: "VersionRead") -> Json:
    content: Json = version.model_dump(mode="json")
    inspection = content.pop("inspection", None)
    for name, value in (inspection if isinstance(inspection, dict) else {}).items():
        content[f"inspection.{name}"] = value
    return content


def _format(name: str, value: object) -> str:
    if name.endswith("_at") and isinstance(value, str):
        return moment(datetime.fromisoformat(value))
    if name == "size_bytes" and isinstance(value, int):
        return size(value)
    return text(value)[:_DIGITS] if name.endswith("digest") else text(value)
