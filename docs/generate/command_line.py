"""The page of every command, from typer; `serve` from its own parser."""

import argparse
from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup

from adaptry.cli import app
from adaptry.serve.arguments import parser
from docs.generate.markdown import code, page, prose, table

INTRODUCTION = """\
`adaptry COMMAND --help` shows the same. Errors are one line on standard error; the exit code is 0
for success, 1 if the server or the machine refused, 2 for a usage error.
Commands that call a server take `--server URL`, or `ADAPTRY_SERVER` from the environment."""

SERVE = """\
`adaptry serve MODEL [options] [any argument of vllm serve]` serves a base model and every adapter
of the registry. These options are ours; all others go to vLLM unchanged, such as `--max-loras`,
`--max-cpu-loras` and `--max-lora-rank`. Many [settings](settings.md) have no option of their
own."""


def command_page() -> str:
    return page("Command line", INTRODUCTION, "## adaptry serve", SERVE, _options(), *_commands())


def _options() -> str:
    rows = [
        (code(" ".join((*action.option_strings, *_metavar(action)))), _help(action))
        for action in parser()._actions  # argparse has no other way to list them
        if action.help is not argparse.SUPPRESS and action.dest != "help"
    ]
    return table(("option", "meaning"), rows)


def _metavar(action: argparse.Action) -> Iterator[str]:
    if action.nargs != 0:
        yield f"{action.metavar or action.dest.upper()}{' …' if action.nargs == '+' else ''}"


def _help(action: argparse.Action) -> str:
    default = action.default
    shown = default not in (None, [], False) and "default" not in (action.help or "")
    return f"{action.help or ''} {f'(default: {default})' if shown else ''}".strip()


def _commands() -> Iterator[str]:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in sorted(root.commands.items()):
        if isinstance(command, TyperGroup):
            yield from (f"## adaptry {name}", prose(command.help or ""))
            for verb, each in sorted(command.commands.items()):
                yield from _command(f"adaptry {name} {verb}", each, "###")
        elif name != "serve":
            yield from _command(f"adaptry {name}", command, "##")


def _command(name: str, command: object, level: str) -> Iterator[str]:
    assert isinstance(command, TyperCommand)
    context = typer.Context(command, info_name=name)
    yield f"{level} {name}"
    yield prose(command.help or "")
    records = (parameter.get_help_record(context) for parameter in command.params)
    yield table(
        ("argument", "meaning"), [(code(_tidy(what)), text) for what, text in filter(None, records)]
    )


def _tidy(what: str) -> str:
    return what.replace("<list[str]>", "<str>")
