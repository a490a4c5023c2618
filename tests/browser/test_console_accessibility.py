"""axe-core finds nothing on a page with a dialog open."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.console_server import ROOT, ConsoleServer

AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
DIALOGS = {
    "#/adapters/upper?version=2": ["Promote …", "Quarantine …", "Edit upper"],
    "#/keys": ["New key …", "API key"],
    "#/tenants": ["New tenant …"],
    "#/webhooks": ["New webhook …"],
    "#/pins": ["Pin …"],
}
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 150))])"""


def violations(page: Page) -> Any:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(RUN)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make console")
def test_no_dialog_violates_a_rule(console: ConsoleServer, visit: Visit) -> None:
    visitor = visit(console.url)
    found: dict[str, Any] = {}
    for address, openers in DIALOGS.items():
        page = visitor.open(address)
        for opener in openers:
            page.get_by_role("button", name=opener, exact=True).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            if wrong := violations(page):
                found[f"{address} {opener}"] = wrong
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)
        page.close()
    assert found == {}
