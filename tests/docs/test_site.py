"""The site builds without a warning, its links lead somewhere, and it fetches nothing."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.support.docs.page_blocks import DOCS

pytestmark = [pytest.mark.servers("site")]

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def local(path: Path, link: str) -> Iterator[tuple[Path, str]]:
    """The file and the anchor that a link of this page means; nothing for one that leads away."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    target, anchor = urldefrag(unquote(link))
    yield ((path.parent / target).resolve() if target else path), anchor


def test_every_document_has_a_page(site: Path, pages: dict[Path, Page]) -> None:
    for document in DOCS.rglob("*.md"):
        name = document.relative_to(DOCS).with_suffix(".html")
        index = name.with_name("index.html") if name.name == "README.html" else name
        assert site / index in pages, "a page of the menu in mkdocs.yml"
    assert not list(site.rglob("*.py"))


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    broken = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        if path.name != "404.html"  # it is shown for any path, and links from the root
        for link in page.links
        for target, anchor in local(path, link)
        if not target.exists() or (anchor and anchor not in pages[target].ids)
    ]
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        away = [url for url in page.loaded if urlsplit(url).netloc]
        assert not away, path.name
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8"), style.name


def test_every_diagram_has_words_and_both_colour_schemes() -> None:
    diagrams = sorted((DOCS / "assets").glob("*.svg"))
    assert len(diagrams) >= 5
    for diagram in diagrams:
        text = diagram.read_text(encoding="utf-8")
        assert "<title" in text
        assert "prefers-color-scheme: dark" in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_picture_of_the_fleet_shows_what_its_tables_say() -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8").partition("## Slots by rank")[0]
    goodputs = re.findall(r"^\| [^|]+ \| ([\d,]+) \| [\d,]+ ms \|", page, re.MULTILINE)
    assert len(goodputs) == 8
    drawn = (DOCS / "assets" / "scale.svg").read_text(encoding="utf-8")
    assert sorted(re.findall(r">([\d,]+)</text>", drawn)) == sorted(goodputs)
