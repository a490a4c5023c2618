"""axe-core finds nothing on the built site: wide and light, narrow and dark."""

from typing import Any, Literal

import pytest
from playwright.sync_api import Browser

from tests.support.docs.page_blocks import ROOT

pytestmark = [pytest.mark.servers("site")]

AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("index", "quick-start", "console", "concepts/request", "reference/errors", "policy")
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 150))])"""


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make console")
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_no_page_violates_a_rule(
    width: int, scheme: Literal["light", "dark"], url: str, chromium: Browser
) -> None:
    page = chromium.new_page(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    found: dict[str, Any] = {}
    for name in PAGES:
        page.goto(f"{url}/{name}.html", wait_until="load")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        if wrong := page.evaluate(RUN):
            found[name] = wrong
    page.close()
    assert found == {}
