"""docs/structure.md: it has every folder, and every file that it names exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "structure.md"
PACKAGES = ("registry", "engine", "fleet", "adaptry", "guest", "benchmarks", "tests")
ROW = re.compile(r"^\| `([\w/-]+)/` \| \S.+ \|$", re.MULTILINE)
PATH = re.compile(r"`([\w.-]+/[\w./-]*)`")
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")


def listed_folders() -> list[str]:
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def folders_of(package: str) -> Iterator[str]:
    """The package and what is below it, but for what Python leaves behind."""
    for folder in (ROOT / package, *(ROOT / package).rglob("*/")):
        files = [path for path in folder.rglob("*") if path.is_file()]
        if any("__pycache__" not in path.parts for path in files):
            yield folder.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_a_package_has_a_line(package: str) -> None:
    assert set(folders_of(package)) <= set(listed_folders())


def test_no_folder_has_two_lines() -> None:
    folders = listed_folders()
    assert len(folders) == len(set(folders))


def test_every_path_on_the_page_exists() -> None:
    paths = PATH.findall(PAGE.read_text(encoding="utf-8"))
    assert len(paths) > 150
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_contributing_links_it_first() -> None:
    links = LINK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert links[0] == "docs/structure.md"


def test_it_is_in_the_menu_of_the_documentation() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"^ +- [^:]+: structure\.md$", menu, re.MULTILINE)
