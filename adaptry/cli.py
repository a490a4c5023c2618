"""The entry point: the tree of commands, and errors as one line on stderr."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adaptry.bench import command as bench_command
from adaptry.client import AdaptryError
from adaptry.commands import adapter as adapter_commands
from adaptry.commands import cache as cache_commands
from adaptry.commands import events as event_commands
from adaptry.commands import job as job_commands
from adaptry.commands import key as key_commands
from adaptry.commands import manifest as manifest_commands
from adaptry.commands import tenant as tenant_commands
from adaptry.commands import transfer as transfer_commands
from adaptry.commands import webhook as webhook_commands
from adaptry.commands import why as why_commands
from adaptry.doctor import command as doctor_command
from adaptry.terminal.errors import INTERRUPTED, CommandError, told
from adaptry.terminal.options import AsJson, show_help
from adaptry.terminal.output import show_json, size

SERVERS = (
    "Commands talk to --server, else to $ADAPTRY_SERVER, else to http://127.0.0.1:8000, with the "
    "API key in $ADAPTRY_API_KEY if there is one."
)
EXIT_CODES = (
    "Exit codes: 0 done; 1 asked in vain, as the server said no or nobody answered; 2 asked "
    "wrongly; 130 interrupted. An error is one line on standard error."
)

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes take a tenth of a second and several lines
    help="Serve many LoRA adapters on one vLLM engine, and see which are in memory.",
    epilog=f"{SERVERS} {EXIT_CODES}",
)
app.add_typer(adapter_commands.app, name="adapter")
app.add_typer(cache_commands.app, name="cache")
app.add_typer(job_commands.app, name="job")
app.add_typer(webhook_commands.app, name="webhook")
app.add_typer(key_commands.app, name="key")
app.add_typer(event_commands.app, name="events")
app.add_typer(manifest_commands.app, name="manifest")
app.add_typer(tenant_commands.app, name="tenant")
app.command()(why_commands.why)
app.command()(bench_command.bench)
app.command()(doctor_command.doctor)
app.command("export")(transfer_commands.export_registry)
app.command("import")(transfer_commands.import_registry)


@app.command(add_help_option=False)
def serve() -> None:
    """Serve a model: adaptry serve MODEL [vLLM's own arguments] [ours]. See serve --help."""
    raise AssertionError("main() hands these arguments on unparsed")


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1.")] = 8000,
    state: Annotated[Path, typer.Option(help="Database, adapter store and log.")] = Path(
        ".adaptry/demo"
    ),
    replicas: Annotated[
        int | None, typer.Option(min=1, max=8, help="Engines, by Ray Serve; by default one alone.")
    ] = None,
) -> None:
    """Serve the demo model with its adapters and say what to try."""
    from adaptry.demo.command import run_demo

    run_demo(port, state, replicas)


database = typer.Typer(
    invoke_without_command=True, callback=show_help, help="The registry's database."
)
app.add_typer(database, name="db")


DatabaseUrl = Annotated[
    str | None, typer.Option("--database", envvar="ADAPTRY_DATABASE_URL", metavar="URL")
]
Store = Annotated[Path | None, typer.Option("--store", envvar="ADAPTRY_STORE", metavar="DIR")]
BackupFolder = Annotated[Path, typer.Argument(metavar="FOLDER")]


@database.command()
def upgrade(url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Bring the tables up to date; `serve` does so itself."""
    from adaptry.commands.database import upgrade_database

    shown = upgrade_database(url)
    if as_json:
        show_json({"database": shown, "up_to_date": True})
    else:
        print(f"up to date: {shown}")


@database.command()
def backup(
    folder: BackupFolder, url: DatabaseUrl = None, store: Store = None, as_json: AsJson = False
) -> None:
    """Copy rows and files into a folder, while servers run; again into the same one for less."""
    from adaptry.commands.database import back_up_registry

    done = back_up_registry(folder, url, store)
    if as_json:
        show_json(asdict(done))
        return
    versions = f"{done.versions} version{'s' * (done.versions != 1)}"
    print(f"{folder}  {versions}, {size(done.size_bytes)}, {done.copied} new")
    for reference in done.without_files:
        print(f"without files: {reference}", file=sys.stderr)


@database.command()
def restore(
    folder: BackupFolder, url: DatabaseUrl = None, store: Store = None, as_json: AsJson = False
) -> None:
    """Fill an empty database and a store from a backup, before `serve`."""
    from adaptry.commands.database import restore_registry

    done = restore_registry(folder, url, store)
    if as_json:
        show_json(asdict(done))
        return
    files = "1 adapter's" if done.versions == 1 else f"{done.versions} adapters'"
    print(f"restored: {files} files, {size(done.size_bytes)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        # Untouched, for vLLM's own parser: ours would swallow `--` and reorder what it knows.
        from adaptry.serve.command import run

        return run(arguments[1:])
    try:
        code = app(arguments, prog_name="adaptry", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (CommandError, AdaptryError, typer.TyperException) as error:
        return _fail(*_told(error))
    return code if isinstance(code, int) else 0


def _told(error: CommandError | AdaptryError | typer.TyperException) -> tuple[str, int]:
    """The line and the exit code for what a command, the client or the parser raised."""
    if isinstance(error, AdaptryError):
        return told(error)
    line = str(error) if isinstance(error, CommandError) else error.format_message()
    return line, error.exit_code


def _fail(message: str, exit_code: int) -> int:
    print(f"adaptry: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
