"""Entry point of the command line: the command tree, and errors as one line on stderr."""

import sys
from collections.abc import Sequence

import typer

from adaptry.bench import command as bench_command
from adaptry.client import AdaptryError
from adaptry.commands import adapter as adapter_commands
from adaptry.commands import base as base_commands
from adaptry.commands import cache as cache_commands
from adaptry.commands import database as database_commands
from adaptry.commands import events as event_commands
from adaptry.commands import job as job_commands
from adaptry.commands import key as key_commands
from adaptry.commands import manifest as manifest_commands
from adaptry.commands import tenant as tenant_commands
from adaptry.commands import transfer as transfer_commands
from adaptry.commands import webhook as webhook_commands
from adaptry.commands import why as why_commands
from adaptry.demo import command as demo_command
from adaptry.doctor import command as doctor_command
from adaptry.terminal.errors import INTERRUPTED, CommandError, describe
from adaptry.terminal.options import show_help

SERVERS = (
    "Commands talk to --server, else to $ADAPTRY_SERVER, else to http://127.0.0.1:8000, with the "
    "API key in $ADAPTRY_API_KEY if there is one."
)
EXIT_CODES = (
    "Exit codes: 0 success; 1 the request failed or the server was unreachable; 2 usage error; "
    "130 interrupted. An error is one line on standard error."
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
app.add_typer(base_commands.app, name="base")
app.add_typer(cache_commands.app, name="cache")
app.add_typer(job_commands.app, name="job")
app.add_typer(webhook_commands.app, name="webhook")
app.add_typer(key_commands.app, name="key")
app.add_typer(event_commands.app, name="events")
app.add_typer(manifest_commands.app, name="manifest")
app.add_typer(tenant_commands.app, name="tenant")
app.add_typer(database_commands.app, name="db")
app.command()(why_commands.why)
app.command()(bench_command.bench)
app.command()(doctor_command.doctor)
app.command()(demo_command.demo)
app.command("export")(transfer_commands.export_registry)
app.command("import")(transfer_commands.import_registry)


@app.command(add_help_option=False)
def serve() -> None:
    """Serve a model: adaptry serve MODEL [options] [vLLM's options]. See serve --help."""
    raise AssertionError("main() passes these arguments on unparsed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        # Unparsed, for vLLM's own parser: typer would swallow `--` and reorder its own options.
        from adaptry.serve.command import run

        return run(arguments[1:])
    try:
        code = app(arguments, prog_name="adaptry", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (CommandError, AdaptryError, typer.TyperException) as error:
        return _fail(*_describe(error))
    return code if isinstance(code, int) else 0


def _describe(error: CommandError | AdaptryError | typer.TyperException) -> tuple[str, int]:
    """The message and the exit code of an error of a command, the client or the parser."""
    if isinstance(error, AdaptryError):
        return describe(error)
    line = str(error) if isinstance(error, CommandError) else error.format_message()
    return line, error.exit_code


def _fail(message: str, exit_code: int) -> int:
    print(f"adaptry: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
