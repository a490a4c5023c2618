"""The documents name only commands, targets and files that exist."""

import re
from itertools import chain
from pathlib import Path

import pytest

from adaptry.command_tree import PLACES, load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    chain(ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "demo").glob("*.md"))
)
CODE = re.compile(r"^```.*?^```|^ {4}\S[^\n]*|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|[\s/`(])adaptry ([a-z]+)(?: ([a-z][a-z-]*))?")
TARGET = re.compile(r"(?:^|[\s`])make ((?:[a-z-]+ ?)+)")


@pytest.fixture(scope="module")
def commands() -> dict[str, set[str]]:
    """Commands and groups of the command line, with the groups' own commands."""
    made = {name: load(name) for name in PLACES}
    return {name: set(getattr(command, "commands", ())) for name, command in made.items()}


def code_of(document: Path) -> str:
    return "\n".join(CODE.findall(document.read_text(encoding="utf-8")))


def ids(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_adaptry_command_exists(document: Path, commands: dict[str, set[str]]) -> None:
    for command, following in COMMAND.findall(code_of(document)):
        assert command in commands, f"adaptry {command}"
        if commands[command]:
            assert not following or following in commands[command], f"adaptry {command} {following}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_make_target_exists(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {word for words in TARGET.findall(code_of(document)) for word in words.split()}
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_relative_link_resolves(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert not [file for file in files if file and not (document.parent / file).exists()]


def test_the_readme_shows_every_group_of_commands(commands: dict[str, set[str]]) -> None:
    shown = {command for command, _ in COMMAND.findall(code_of(ROOT / "README.md"))}
    assert set(commands) <= shown


def test_every_decision_is_listed_and_has_its_four_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    pages = sorted(folder.glob("0*.md"))
    assert [page.name for page in pages] == listed
    for page in pages:
        headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives"], page.name
