"""The demo's last act: a second version is promoted and rolled back, and each step said."""

from collections.abc import Iterator
from pathlib import Path

from adaptry.alias_commands import target
from adaptry.demo_guide import WORD, Guide
from adaptry.errors import Refused
from adaptry.jobs import registered
from adaptry.output import shown
from adaptry.rest import Json, RestClient, items
from adaptry.rest_paths import alias_path
from demo.tasks import prompt_for

ALIAS = "prod"


def promoted_and_rolled_back(client: RestClient, guide: Guide, second: Path) -> Iterator[str]:
    """The lines to print: each command as it can be pasted, and behind the # what came of it.

    `second` holds the second version's files. Another alias than the default is moved, so that
    whoever ends the demo midway finds it as it was.
    """
    yield f"A second version of {guide.pinned} was promoted just now, and rolled back. Once more:"
    try:
        yield from _steps(client, guide, second)
    except Refused as error:  # somebody retired a version, say; the others are served nevertheless
        yield f"  not this time: {error}"


def _steps(client: RestClient, guide: Guide, second: Path) -> Iterator[str]:
    name = guide.pinned
    alias = f"{name}@{ALIAS}"
    version, _ = registered(client, name, str(second), None)
    number = int(str(version.get("number")))
    yield _said(guide.adapter(f"add {name} {shown(second)}"), str(version.get("reference")))

    def answer() -> str:
        body: Json = {"model": alias, "prompt": prompt_for(WORD), "max_tokens": 16}
        completion = client.call("POST", "/v1/completions", body | {"temperature": 0})[1]
        return _said(guide.ask(alias), str(items(completion, "choices")[0].get("text")))

    def moved(command: str, method: str, path: str, body: Json) -> str:
        state = client.call(method, path, body)[1]
        return _said(guide.adapter(f"{command} --alias {ALIAS}"), f"{alias} -> {target(state)}")

    path = alias_path(name, ALIAS)
    yield moved(f"promote {name}:1", "PUT", path, {"version": 1})
    yield answer()
    yield moved(f"promote {name}:{number}", "PUT", path, {"version": number})
    yield answer()
    yield moved(f"rollback {name}", "POST", f"{path}/rollback", {})
    yield answer()


def _said(command: str, outcome: str) -> str:
    return f"  {command}   # {outcome}"
