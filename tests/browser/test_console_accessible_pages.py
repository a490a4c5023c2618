"""axe-core finds nothing on any page: at both widths, in both colours, with a dialog open."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.console_server import ROOT, ConsoleServer

AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {
    "#/cache?ref=upper:1": "Cache",
    "#/sizing": "Sizing",
    "#/adapters": "Adapters",
    "#/adapters?text=nothing-has-this": "Adapters",
    "#/adapters/upper?version=1": "upper",
    "#/versions": "Versions",
    "#/publish": "Publish",
    "#/compare?a=upper%3A1&b=upper%3A2": "Compare",
    "#/try?a=upper": "Try it",
    "#/events": "Events",
    "#/jobs": "Jobs",
    "#/pins": "Pins",
    "#/keys": "Keys",
    "#/tenants": "Tenants",
    "#/webhooks": "Webhooks",
    "#/server": "Server",
}
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 150))])"""


def violations(page: Page) -> Any:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(RUN)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make console")
@pytest.mark.parametrize(("width", "colours"), [(1440, "light"), (390, "dark")])
def test_no_page_violates_a_rule(
    console: ConsoleServer, visit: Visit, width: int, colours: str
) -> None:
    visitor = visit(console.url, width=width, colours=colours)
    found: dict[str, Any] = {}
    for address, heading in PAGES.items():
        page = visitor.open(address)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        page.wait_for_timeout(400)
        assert page.locator(".notice.problem").count() == 0, address
        if wrong := violations(page):
            found[address] = wrong
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found[f"{address} is too wide"] = page.evaluate("document.documentElement.scrollWidth")
        page.close()
    assert found == {}
