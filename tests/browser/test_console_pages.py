"""Every page of the console over the real engine: it loads, fits, is named, and can be seen."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.helpers import ask

pytestmark = [pytest.mark.engine]

PAGES = {
    "#/cache": "Cache",
    "#/cache?ref=upper:1": "Cache",
    "#/adapters": "Adapters",
    "#/versions?state=ready": "Versions",
    "#/adapters/upper?version=1": "upper",
    "#/try?a=upper&b=rot13&prompt=hello%3D": "Try it",
    "#/events": "Events",
    "#/events?adapter=upper": "Events",
    "#/events?since=yesterday": "Events",
}
CONTRAST = """async (pairs) => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const probe = document.body.appendChild(document.createElement("i"));
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    context.fillStyle = getComputedStyle(probe).color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return pairs.map(([one, other]) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}"""


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("address", PAGES)
def test_a_page_loads_without_complaint(
    server: Any, visit: Visit, address: str, colours: str
) -> None:
    ask(server, "upper")
    page = visit(server.base_url, colours=colours).open(address)
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[address])
    page.wait_for_load_state("networkidle") if "try" in address else page.wait_for_timeout(300)
    expect(page.locator(".notice")).to_have_count(0)
    lightness = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert (sum(lightness) / 3 > 128) == (colours == "light")


@pytest.mark.parametrize("address", PAGES)
def test_nothing_is_wider_than_a_phone(server: Any, visit: Visit, address: str) -> None:
    ask(server, "upper")
    page = visit(server.base_url, width=360).open(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_timeout(500)
    wider = """[...document.querySelectorAll('body *')]
      .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > 361)
      .filter((each) => !each.closest('.unseen, thead, .scroll, pre'))
      .map((each) => `${each.tagName}.${each.className}`)"""
    assert page.evaluate(wider) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("address", PAGES)
def test_every_control_has_a_name(server: Any, visit: Visit, address: str) -> None:
    page = visit(server.base_url).open(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_timeout(300)
    nameless = """[...document.querySelectorAll('button, a, input, select, textarea')]
      .filter((each) => !each.textContent.trim() && !each.ariaLabel && !each.labels?.length)
      .map((each) => each.outerHTML)"""
    assert page.evaluate(nameless) == []
    for landmark in ("banner", "navigation", "main"):
        expect(page.locator(f"role={landmark}")).to_have_count(1)


def test_there_is_no_such_page(server: Any, visit: Visit) -> None:
    page = visit(server.base_url).open("#/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such page")
    page.get_by_role("link", name="To the cache").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cache")


def test_colours_can_be_chosen_and_are_remembered(server: Any, visit: Visit) -> None:
    page = visit(server.base_url, colours="light").open()
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    toggle = page.locator("#theme")
    toggle.click()
    toggle.click()
    expect(toggle).to_have_text("● Dark")
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    assert page.evaluate(paper) == dark


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_colours_have_contrast_enough(server: Any, visit: Visit, colours: str) -> None:
    """WCAG 2.2: 4.5 to 1 for texts, 3 to 1 for the edges of controls."""
    page = visit(server.base_url, colours=colours).open("#/try")
    grounds = ("paper", "surface", "sunken")
    texts = [(text, ground) for text in ("ink", "soft", "accent") for ground in grounds]
    texts += [("ink", "accent-wash"), ("accent", "accent-wash"), ("on-accent", "accent")]
    texts += [(text, "trouble-wash") for text in ("ink", "trouble", "accent")]
    texts += [("trouble", "paper"), ("trouble", "surface")]
    found = dict(zip(texts, page.evaluate(CONTRAST, texts), strict=True))
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}
    edges = page.evaluate(CONTRAST, [("edge", "surface"), ("edge", "paper")])
    assert min(edges) >= 3
