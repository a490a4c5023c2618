"""The demo's last act: a second version is promoted and rolled back, and each step said."""

from collections.abc import Iterator
from pathlib import Path

from adaptry.client import ApiError, Client
from adaptry.client.models import AliasRead
from adaptry.commands.alias import target
from adaptry.demo.guide import WORD, Guide
from adaptry.terminal.job_progress import registered
from adaptry.terminal.output import shown
from demo.tasks import prompt_for

ALIAS = "prod"


def promoted_and_rolled_back(client: Client, guide: Guide, second: Path) -> Iterator[str]:
    """The lines to print: each command as it can be pasted, and behind the # what came of it.

    `second` holds the second version's files. Another alias than the default is moved, so that
    whoever ends the demo midway finds it as it was.
    """
    yield f"A second version of {guide.pinned} was promoted just now, and rolled back. Once more:"
    try:
        yield from _steps(client, guide, second)
    except ApiError as error:  # somebody retired a version, say; the others are served nevertheless
        yield f"  not this time: {error}"


def _steps(client: Client, guide: Guide, second: Path) -> Iterator[str]:
    name = guide.pinned
    alias = f"{name}@{ALIAS}"
    version = registered(client, name, str(second), None).version
    yield _said(guide.adapter(f"add {name} {shown(second)}"), version.reference)

    def answer() -> str:
        done = client.generate(prompt_for(WORD), model=alias, max_tokens=16, temperature=0)
        return _said(guide.ask(alias), done.text[0])

    def moved(command: str, state: AliasRead) -> str:
        return _said(guide.adapter(f"{command} --alias {ALIAS}"), f"{alias} -> {target(state)}")

    yield moved(f"promote {name}:1", client.aliases.set(name, ALIAS, version=1))
    yield answer()
    second_time = client.aliases.set(name, ALIAS, version=version.number)
    yield moved(f"promote {name}:{version.number}", second_time)
    yield answer()
    yield moved(f"rollback {name}", client.aliases.roll_back(name, ALIAS))
    yield answer()


def _said(command: str, outcome: str) -> str:
    return f"  {command}   # {outcome}"
