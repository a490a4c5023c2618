"""Entry point of the command line: the command tree, and errors as one line on stderr."""

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from adaptry.late_imports import put_off

put_off("shellingham")  # typer's, to install completion: 5 ms

import typer  # noqa: E402

from adaptry.command_tree import CommandTree, help_of  # noqa: E402
from adaptry.terminal.closed_output import (  # noqa: E402
    ClosedOutput,
    give_up_output,
    is_unread,
    is_unwritable,
)
from adaptry.terminal.errors import FAILED, INTERRUPTED, CommandError  # noqa: E402

COMPLETING = "_ADAPTRY_COMPLETE"  # a shell asks for completions, in the environment
SERVERS = (
    "Commands talk to --server, else to $ADAPTRY_SERVER, else to http://127.0.0.1:8000, with the "
    "API key in $ADAPTRY_API_KEY if there is one."
)
EXIT_CODES = (
    "Exit codes: 0 success; 1 the request failed or the server was unreachable; 2 usage error; "
    "130 interrupted. An error is one line on standard error."
)

if "multiprocessing.spawn" in sys.modules:  # a process of the engine's, which imports vLLM next
    from engine.unfit_packages import hide_unfit_packages

    hide_unfit_packages()

app = typer.Typer(
    cls=CommandTree,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes take a tenth of a second and several lines
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from registry.version import adaptry_version

        print(f"adaptry {adaptry_version()}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    help="Serve many LoRA adapters on one vLLM engine, and see which are in memory.",
    epilog=f"{SERVERS} {EXIT_CODES}",
)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_server = arguments[:1] == ["serve"]
    if sys.stdout is None and not is_server:  # a server says nothing on it that is wanted
        sys.stdout = ClosedOutput()
    try:
        code = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not is_unread():
            raise
        give_up_output()
        return FAILED
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        from adaptry.terminal.failures import failure_of

        if isinstance(error, OSError) and sys.stdout is not None and is_unwritable(error):
            give_up_output()
            error = CommandError(f"standard output can't be written: {error.strerror}")
        if (failure := failure_of(error, arguments)) is None:
            raise
        failure.show(as_json="--json" in arguments)
        return failure.exit_code


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["serve"]:
        # Unparsed, for vLLM's own parser: typer would swallow `--` and reorder its own options.
        from adaptry.serve.command import run

        return run(arguments[1:])
    command = typer.main.get_command(app)
    shown = None if COMPLETING in os.environ else help_of(command, arguments)
    if shown is not None:
        print(shown)
        return 0
    with _rarely_collected():
        code = command(arguments, prog_name="adaptry", standalone_mode=False)
    return code if isinstance(code, int) else 0


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """While modules are imported there is little garbage, and to look for it takes 10 ms."""
    before = gc.get_threshold()
    gc.set_threshold(50_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
