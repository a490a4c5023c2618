"""`adaptry export` and `adaptry import`: transfer of a whole registry."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptry.terminal.errors import UsageError
from adaptry.terminal.job_progress import TransferBar
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect
from adaptry.terminal.output import show_json, size

if TYPE_CHECKING:
    from adaptry.client.models import ImportRead

_SHOWN = 5

Origin = Literal["export", "peft", "lora-modules", "lora-sidecar", "mlflow"]


def export_registry(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="A new folder, FILE.tar, FILE.tar.gz or - (stdout)."),
    ],
    adapter: Annotated[
        list[str] | None, typer.Option(help="Only this adapter; may be repeated.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Write adapters, versions, aliases, history, events and files into a folder or a tar."""
    from adaptry.importers.archive import write_archive

    if target == "-" and as_json:
        raise UsageError("the export itself goes to standard output: leave --json out")
    with connect(server) as client, client.transfer.export(adapter or ()) as chunks:
        written = write_archive(target, _with_progress(chunks))
    if as_json:
        show_json({"target": target, "size_bytes": written})
    elif target != "-":
        print(f"{target}  {size(written)}")


def import_registry(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="An export (folder, tar or - for stdin), or as --from describes; several "
            "for lora-modules.",
        ),
    ],
    origin: Annotated[
        Origin,
        typer.Option(
            "--from",
            help="peft: a folder of PEFT folders; lora-modules: NAME=PATH or JSON, as for vLLM; "
            "lora-sidecar: a file with its vLLMLoRAConfig; mlflow: the URL of a server.",
        ),
    ] = "export",
    aliases: Annotated[
        Literal["keep", "replace"],
        typer.Option(help="Existing aliases that point elsewhere: keep or replace them."),
    ] = "keep",
    invalid: Annotated[
        Literal["refuse", "skip"],
        typer.Option(help="Versions that can't be served: refuse the import, or skip them."),
    ] = "refuse",
    dry_run: Annotated[bool, typer.Option(help="Only show what would be changed.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model of MLflow; may be repeated.")
    ] = None,
    default_alias: Annotated[
        str | None,
        typer.Option(help="The MLflow alias that a bare name means [default: the newest version]."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Import everything or, on any error, nothing. Repeating an import changes nothing."""
    if origin != "mlflow" and (model or default_alias):
        raise UsageError("--model and --default-alias are for --from mlflow")
    if origin == "lora-sidecar":
        _reconcile(source, server, dry_run=dry_run, as_json=as_json)
        return
    with tempfile.TemporaryDirectory(prefix="adaptry-import-") as workspace:
        chunks, skipped = _open_source(origin, source, Path(workspace), model or (), default_alias)
        with connect(server) as client, TransferBar() as bar:
            report = client.transfer.import_archive(
                chunks, aliases=aliases, invalid=invalid, dry_run=dry_run, on_bytes=bar.show_upload
            )
    report.skipped = {**skipped, **report.skipped}
    if as_json:
        show_json(report)
    else:
        _show(report)


def _reconcile(source: Sequence[str], server: str, *, dry_run: bool, as_json: bool) -> None:
    """Register one adapter after the other, from sources that the server fetches."""
    from adaptry.importers.lora_sidecar import read_sidecar_config, reconcile

    if len(source) > 1:
        raise UsageError("one SOURCE at a time")
    config = read_sidecar_config(Path(source[0]))
    with connect(server) as client:
        done = asdict(reconcile(client, config, dry_run=dry_run))
    if as_json:
        show_json({"dry_run": dry_run, **done})
        return
    print("would be changed:" if dry_run else "changed:")
    for what, references in done.items():
        for reference in references:
            print(f"{what:>12}  {reference}")


def _open_source(
    origin: Origin,
    source: Sequence[str],
    workspace: Path,
    models: Sequence[str],
    default: str | None,
) -> tuple[Iterator[bytes], dict[str, str]]:
    """The tar to send, and the reasons for what was left out of it."""
    if origin != "lora-modules" and len(source) > 1:
        raise UsageError("one SOURCE at a time")
    if origin == "export":
        from adaptry.importers.archive import read_archive

        return read_archive(source[0]), {}
    from adaptry.importers.base import export_entries
    from registry.storage.tar import tar_chunks

    if origin == "mlflow":
        from adaptry.importers.mlflow import from_mlflow

        found, skipped = from_mlflow(source[0], workspace, models=models, default=default)
    elif origin == "peft":
        from adaptry.importers.folders import from_peft_folder

        found, skipped = from_peft_folder(Path(source[0]))
    else:
        from adaptry.importers.folders import from_lora_modules

        found, skipped = from_lora_modules(source)
    return tar_chunks(export_entries(found, datetime.now(UTC))), skipped


def _with_progress(chunks: Iterator[bytes]) -> Iterator[bytes]:
    done = 0
    with TransferBar() as bar:
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            bar.show("exporting", done, None)


def _show(report: "ImportRead") -> None:
    print("would be imported:" if report.dry_run else "imported:")
    for what in ("adapters_added", "versions_added", "aliases_set", "events_added"):
        print(f"{getattr(report, what):>8}  {what.replace('_', ' ')}")
    print(f"{report.versions_unchanged:>8}  versions that were here already")
    for reference, own in report.further_numbers.items():
        print(f"{reference} has the content of {own}: a further number of it")
    for alias in report.aliases_kept:
        print(f"kept as it is here: {alias}")
    for name, reason in report.skipped.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    for code, references in report.remarks.items():
        more = f" and {len(references) - _SHOWN} more" if len(references) > _SHOWN else ""
        print(f"note: {', '.join(references[:_SHOWN])}{more} [{code}]")
