"""`adaptry export` and `adaptry import`: a whole registry, from one place to another."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adaptry.errors import UsageError
from adaptry.options import DEFAULT_SERVER, AsJson, Server
from adaptry.output import show_json, text
from adaptry.rest import Json, RestClient


class Origin(StrEnum):
    """What is imported."""

    EXPORT = "export"
    PEFT = "peft"
    LORA_MODULES = "lora-modules"
    MLFLOW = "mlflow"


class Aliases(StrEnum):
    KEEP = "keep"
    REPLACE = "replace"


class Invalid(StrEnum):
    REFUSE = "refuse"
    SKIP = "skip"


def export_registry(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="A new folder, FILE.tar, FILE.tar.gz or - (stdout)."),
    ],
    adapter: Annotated[
        list[str] | None, typer.Option(help="Only this adapter; may be repeated.")
    ] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Write adapters, versions, aliases, history, events and files into a folder or a tar."""
    from adaptry.archive_files import write_archive

    with RestClient(server) as client, client.export(adapter or ()) as chunks:
        written = write_archive(target, chunks)
    if target != "-":
        print(f"{target}  {written}")


def import_registry(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="An export (folder, tar or - for stdin); or what --from says.",
        ),
    ],
    origin: Annotated[
        Origin,
        typer.Option(
            "--from",
            help="peft: a folder of PEFT folders; lora-modules: NAME=PATH or JSON, as for vLLM; "
            "mlflow: the URL of a server.",
        ),
    ] = Origin.EXPORT,
    aliases: Annotated[
        Aliases, typer.Option(help="Aliases that point elsewhere here: keep or replace them.")
    ] = Aliases.KEEP,
    invalid: Annotated[
        Invalid, typer.Option(help="Versions that can't be served: refuse all or skip them.")
    ] = Invalid.REFUSE,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be changed.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model of MLflow; may be repeated.")
    ] = None,
    default_alias: Annotated[
        str | None, typer.Option(help="The alias of MLflow that a bare name means (else: newest).")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Import everything or, if anything is wrong, nothing. The same again changes nothing."""
    if origin is not Origin.MLFLOW and (model or default_alias):
        raise UsageError("--model and --default-alias are for --from mlflow")
    query = {"aliases": aliases.value, "invalid": invalid.value, "dry_run": str(dry_run).lower()}
    with tempfile.TemporaryDirectory(prefix="adaptry-import-") as workspace:
        chunks, skipped = _opened(origin, source, Path(workspace), model or (), default_alias)
        with RestClient(server) as client:
            report = client.import_archive(chunks, query)
    report["skipped"] = {**skipped, **_texts(report.get("skipped"))}
    if as_json:
        show_json(report)
    else:
        _show(report)


def _opened(
    origin: Origin,
    source: Sequence[str],
    workspace: Path,
    models: Sequence[str],
    default: str | None,
) -> tuple[Iterator[bytes], dict[str, str]]:
    """The tar to send, and why some of what is there is not in it."""
    if origin is not Origin.LORA_MODULES and len(source) > 1:
        raise UsageError("one SOURCE at a time")
    if origin is Origin.EXPORT:
        from adaptry.archive_files import read_archive

        return read_archive(source[0]), {}
    from adaptry.foreign import export_entries
    from registry.tar_stream import tar_chunks

    if origin is Origin.MLFLOW:
        from adaptry.from_mlflow import from_mlflow

        found, skipped = from_mlflow(source[0], workspace, models=models, default=default)
    elif origin is Origin.PEFT:
        from adaptry.from_folders import from_peft_folder

        found, skipped = from_peft_folder(Path(source[0]))
    else:
        from adaptry.from_folders import from_lora_modules

        found, skipped = from_lora_modules(source)
    return tar_chunks(export_entries(found, datetime.now(UTC))), skipped


def _show(report: Json) -> None:
    print("would be imported:" if report.get("dry_run") else "imported:")
    for what in ("adapters_added", "versions_added", "aliases_set", "events_added"):
        print(f"{text(report.get(what)):>8}  {what.replace('_', ' ')}")
    print(f"{text(report.get('versions_unchanged')):>8}  versions that were here already")
    kept = report.get("aliases_kept")
    for alias in kept if isinstance(kept, list) else ():
        print(f"kept as it is here: {alias}")
    for name, reason in _texts(report.get("skipped")).items():
        print(f"left out: {name}: {reason}", file=sys.stderr)


def _texts(value: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
