"""Pages that messages name: by their title in the menu, as a wheel has none but the runbooks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from adaptry.commands.grafana import FILES

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "engine", "fleet", "guest", "adaptry")
TITLE = re.compile(r"the documentation: ([A-Z][\w ]*)")


def texts(file: Path) -> Iterator[str]:
    """Texts in the code, without docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


def all_texts() -> list[str]:
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return [text for file in files for text in texts(file)]


def test_messages_name_pages_that_an_installed_server_s_reader_can_find() -> None:
    found = all_texts()
    named = {text for text in found if re.search(r"docs/[\w/-]+\.md", text)}
    assert named <= set(FILES), "but for those that it writes to a folder"
    titles = {match[1] for text in found for match in TITLE.finditer(text)}
    menu = set(re.findall(r"^ *- ([\w ]+): ", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert titles
    assert titles <= menu
