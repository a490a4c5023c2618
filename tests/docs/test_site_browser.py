"""The built site in a real browser: at two widths and in both schemes, without the network."""

from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.servers("site")]

WIDTHS = (1280, 390)
PAGES = ("index", "quick-start", "concepts/request", "howto/from-vllm", "reference/rest")
DARK = "body[data-md-color-scheme=slate]"


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_load_by_themselves_and_fit_the_screen(
    width: int, url: str, chromium: Browser
) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 844})
    complaints, away = watched(page, url)
    for name in PAGES:
        page.goto(f"{url}/{name}.html")
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{name} is {wider} pixels too wide"
    assert not complaints
    assert not away, "asks for what is not in the site"
    page.close()


def watched(page: Page, url: str) -> tuple[list[str], list[str]]:
    complaints: list[str] = []
    away: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on(
        "request",
        lambda request: (
            away.append(request.url)
            if not request.url.startswith((url, "data:", "blob:"))
            else None
        ),
    )
    return complaints, away


def test_the_scheme_follows_the_system_until_the_reader_chooses(
    url: str, chromium: Browser
) -> None:
    schemes: tuple[Literal["dark", "light"], ...] = ("dark", "light")
    for scheme in schemes:
        page = chromium.new_page(color_scheme=scheme)
        page.goto(f"{url}/cache.html")
        page.wait_for_load_state("networkidle")
        assert (page.query_selector(DARK) is not None) == (scheme == "dark")
        page.close()
    page = chromium.new_page(color_scheme="light")
    page.goto(f"{url}/cache.html")
    page.click("label[for=__palette_1]")
    page.wait_for_selector(DARK)
    assert page.evaluate("getComputedStyle(document.querySelector('img')).colorScheme") == "dark"
    page.close()


def test_the_search_finds_a_page(url: str, chromium: Browser) -> None:
    page = chromium.new_page()
    page.goto(f"{url}/index.html")
    page.click(".md-search__input")
    page.keyboard.type("pin budget")
    found = page.wait_for_selector(".md-search-result__item")
    assert found
    assert "pin" in found.inner_text().lower()
    page.close()
