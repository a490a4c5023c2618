"""Promotion in the demo: promotes a second version and rolls back, with a line for each step."""

from collections.abc import Iterator
from pathlib import Path

from adaptry.client import ApiError, Client
from adaptry.client.models import AliasRead
from adaptry.commands.alias import target
from adaptry.demo.guide import PROMPT, Guide
from adaptry.terminal.job_progress import register
from adaptry.terminal.output import shown

ALIAS = "prod"


def promote_and_roll_back(client: Client, guide: Guide, second: Path) -> Iterator[str]:
    """The lines to print: each command, ready to paste, with its outcome after the #.

    `second` holds the second version's files. The alias that moves is not the default, so that a
    demo that ends midway leaves that one unchanged.
    """
    yield f"A second version of {guide.pinned} was promoted just now, and rolled back. Once more:"
    try:
        yield from _steps(client, guide, second)
    except ApiError as error:  # such as a retired version; the other adapters are served
        yield f"  not this time: {error}"


def _steps(client: Client, guide: Guide, second: Path) -> Iterator[str]:
    name = guide.pinned
    alias = f"{name}@{ALIAS}"
    version = register(client, name, str(second), None).version
    yield _line(guide.adapter(f"add {name} {shown(second)}"), version.reference)

    def answer() -> str:
        done = client.generate(PROMPT, model=alias, max_tokens=16, temperature=0)
        return _line(guide.ask(alias), done.text[0])

    def move(command: str, state: AliasRead) -> str:
        return _line(guide.adapter(f"{command} --alias {ALIAS}"), f"{alias} -> {target(state)}")

    yield move(f"promote {name}:1", client.aliases.set(name, ALIAS, version=1))
    yield answer()
    second_time = client.aliases.set(name, ALIAS, version=version.number)
    yield move(f"promote {name}:{version.number}", second_time)
    yield answer()
    yield move(f"rollback {name}", client.aliases.roll_back(name, ALIAS))
    yield answer()


def _line(command: str, outcome: str) -> str:
    return f"  {command}   # {outcome}"
