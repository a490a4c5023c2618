"""axe-core finds nothing on any page: at both widths, in both colours."""

from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Device, Visit
from tests.browser.console_server import ROOT, ConsoleServer

AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {
    "#/cache?ref=upper:1": "Cache",
    "#/history": "History",
    "#/history?at=2026-01-01T00:00:00Z": "History",
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
COLOURS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 150))])"""


def violations(page: Page) -> Any:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(RUN)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make console")
@pytest.mark.parametrize(
    "device", [Device(1440, 900, "light"), Device(390, 844, "dark")], ids=["desktop", "phone"]
)
def test_no_page_violates_a_rule(console: ConsoleServer, visit: Visit, device: Device) -> None:
    """In both colours: those it is opened with, and the other ones."""
    visitor = visit(console.url, device=device)
    found: dict[str, Any] = {}
    for address, heading in PAGES.items():
        page = visitor.open(address)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        page.wait_for_timeout(400)
        assert page.locator(".notice.problem").count() == 0, address
        for colours in COLOURS:
            page.emulate_media(color_scheme=colours)
            if wrong := violations(page):
                found[f"{address} in {colours}"] = wrong
        if page.evaluate("document.documentElement.scrollWidth") > device.width:
            found[f"{address} is too wide"] = page.evaluate("document.documentElement.scrollWidth")
        page.close()
    assert found == {}
