"""Command tree: the names of all commands; the module of one is imported when it is called."""

import importlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info, get_command_name, get_group_from_info
from typer.models import CommandInfo, TyperInfo

from adaptry.late_imports import leave_out


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is: a function, or the group of a module. `help`: its first sentence."""

    module: str
    attribute: str
    help: str


PLACES = {
    "serve": Place(
        "adaptry.command_tree",
        "serve",
        "Serve a model: adaptry serve MODEL [options] [vLLM's options].",
    ),
    "why": Place(
        "adaptry.commands.why",
        "why",
        "Show where an adapter is, what last happened to it, and what would help.",
    ),
    "undo": Place(
        "adaptry.commands.undo", "undo", "Move an alias back to where it was before its last move."
    ),
    "diff": Place(
        "adaptry.adapters.diff",
        "diff",
        "Show what differs between two versions: files, ranks, modules, base model, metadata.",
    ),
    "fanout": Place(
        "adaptry.commands.fanout",
        "fanout",
        "Ask several models over one prompt, which is computed once; print each answer.",
    ),
    "bench": Place(
        "adaptry.bench.command",
        "bench",
        "Send requests for many adapters to a running server; report hit ratio and times.",
    ),
    "doctor": Place(
        "adaptry.doctor.command",
        "doctor",
        "Check install, vLLM, GPU, database, disk, port and limits; print how to fix problems.",
    ),
    "demo": Place(
        "adaptry.demo.command",
        "demo",
        "Serve the demo model with its adapters and print what to try.",
    ),
    "export": Place(
        "adaptry.commands.transfer",
        "export_registry",
        "Write adapters, versions, aliases, history, events and files into a folder or a tar.",
    ),
    "import": Place(
        "adaptry.commands.transfer",
        "import_registry",
        "Import everything or, on any error, nothing.",
    ),
    "adapter": Place(
        "adaptry.commands.adapter", "app", "Register, find, promote and retire adapters."
    ),
    "base": Place(
        "adaptry.commands.base",
        "app",
        "List the base models of a registry, and declare which are compatible.",
    ),
    "cache": Place(
        "adaptry.commands.cache", "app", "Inspect and control what is in GPU slots and host memory."
    ),
    "size": Place(
        "adaptry.sizing.command",
        "size",
        "Simulate a recorded trace; say how many slots, host places and replicas its goal needs.",
    ),
    "trace": Place(
        "adaptry.traces.command",
        "app",
        "The recorded arrivals of a server: when, for which adapter, how long.",
    ),
    "job": Place("adaptry.commands.job", "app", "Follow and cancel background registrations."),
    "webhook": Place(
        "adaptry.commands.webhook", "app", "Send events of the registry to other systems."
    ),
    "whoami": Place(
        "adaptry.commands.key", "whoami", "Show whose key is in use, and what it may do."
    ),
    "key": Place("adaptry.commands.key", "app", "API keys and their scopes."),
    "events": Place(
        "adaptry.commands.events", "app", "The log of all changes: who, when, from where, what."
    ),
    "grafana": Place(
        "adaptry.commands.grafana", "app", "Dashboards and alert rules for Grafana and Prometheus."
    ),
    "manifest": Place(
        "adaptry.commands.manifest", "app", "Write adapters and aliases as Kubernetes objects."
    ),
    "tenant": Place(
        "adaptry.commands.tenant", "app", "Tenants: separate namespaces of adapters, with limits."
    ),
    "db": Place("adaptry.commands.database", "app", "The registry's database."),
}

MOST_MEANT = 3


def serve() -> None:
    """Serve a model: adaptry serve MODEL [options] [vLLM's options]. See serve --help."""
    raise AssertionError("main() passes these arguments on unparsed")


def load(name: str) -> Any:
    """Import a command and make it."""
    leave_out()
    place = PLACES[name]
    found = getattr(importlib.import_module(place.module), place.attribute)
    if isinstance(found, typer.Typer):
        return _make_group(name, found)
    return _make_command(CommandInfo(name, callback=found, add_help_option=name != "serve"))


def _make_group(name: str, app: typer.Typer) -> TyperGroup:
    """Typer would make each of its commands, which takes up to 30 ms."""
    infos = {_name_of(info): info for info in app.registered_commands}
    empty = copy(app)
    empty.registered_commands = []
    group = get_group_from_info(
        TyperInfo(empty, name=name),
        pretty_exceptions_short=True,
        suggest_commands=True,
        rich_markup_mode=None,
    )
    group.commands = cast("Any", LazyCommands(infos, lambda verb: _make_command(infos[verb])))
    return group


def _name_of(info: CommandInfo) -> str:
    assert info.callback
    return info.name or get_command_name(info.callback.__name__)


def _make_command(info: CommandInfo) -> Any:
    return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)


def help_of(root: Any, arguments: Sequence[str]) -> str | None:
    """The help of `NAME… --help`, of `-h`, or of a group's name alone; None for anything else.

    Typer imports pydantic to read a flag, even --help, which takes as long as all the rest.
    """
    asked = list(arguments[-1:]) in (["--help"], ["-h"])
    command, context = root, typer.Context(root, info_name="adaptry")
    for word in arguments[: -1 if asked else None]:
        if not isinstance(command, TyperGroup) or word not in command.commands:
            return None
        command = command.commands[word]
        context = typer.Context(command, parent=context, info_name=word)
    is_shown = asked or isinstance(command, TyperGroup)
    return str(command.get_help(context)) if is_shown else None


class LazyCommands(MutableMapping[str, Any]):
    """The names are there immediately; a command is made when it is read."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Any]) -> None:
        self._made: dict[str, Any] = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            self._made[name] = self._make(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class CommandTree(TyperGroup):
    """The root group. Its help is written without importing the commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = cast("Any", LazyCommands(PLACES, load))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Who forgets the noun is told it: `adapter list` for `list`."""
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:
            if "Did you mean" not in error.message and (found := self._meant_by(args[0])):
                error.message += f" Did you mean {', '.join(map(repr, found[:MOST_MEANT]))}?"
            raise

    def _meant_by(self, word: str) -> list[str]:
        if word == "help":
            return ["--help"]
        names = [name for name, place in PLACES.items() if place.attribute == "app"]
        groups = {name: cast("TyperGroup", self.commands[name]) for name in names}
        return [f"{name} {word}" for name, group in groups.items() if word in group.commands]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in PLACES.items()])
