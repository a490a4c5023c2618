"""Every page with the keyboard alone, and with keys that may do little.

Nothing is out of reach, and nothing is offered that the server refuses.
"""

from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from registry.auth.scopes import Scope
from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer, console_server
from tests.browser.test_console_accessible_pages import PAGES

NOT_REACHED = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((each) => !each.dataset.reached && !each.disabled && each.checkVisibility()
    && each.tabIndex >= 0 && !each.classList.contains("skip"))
  .map((each) => each.outerHTML.slice(0, 120))"""
REACH = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return ""; // past the end: the next one is the first
  if (at === window.tabbed) return ""; // a date: each of its fields
  window.tabbed = at;
  if (at.dataset.reached) return "again";
  at.dataset.reached = "yes";
  const style = getComputedStyle(at);
  const isMarked = style.outlineStyle !== "none" || style.boxShadow !== "none";
  return isMarked || at.type === "range" ? "" : `no mark: ${at.outerHTML.slice(0, 120)}`;
}"""
SCOPES = [
    pytest.param("reader", [Scope.INFER], id="infer"),
    pytest.param("publisher", [Scope.PUBLISH], id="publish"),
    pytest.param("operator", [Scope.OPERATE], id="operate"),
    pytest.param("acme~app", [Scope.INFER], id="tenant-infer"),
    pytest.param("acme~boss", [Scope.ADMIN], id="tenant-admin"),
]
OFFERED = """() => [...document.querySelectorAll("main a[href^='#/'], nav a[href^='#/']")]
  .filter((each) => each.checkVisibility()).map((each) => each.getAttribute("href"))"""


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with console_server(tmp_path_factory.mktemp("reach"), require_keys=True) as server:
        for name, folder in (("upper", "upper"), ("upper", "vowels")):
            server.register(name, folder)
        tenants = server.registry.tenants.create_service(server.cache.controller.tenants.usage)
        server.run(tenants.create("acme", {}, actor="test"))
        server.register("acme~notes", "upper")
        server.ask("upper")
        yield server


def test_the_keyboard_reaches_everything(console: ConsoleServer, visit: Visit) -> None:
    visitor = visit(console.url, width=1440)
    wrong: dict[str, Any] = {}
    for address, heading in PAGES.items():
        for milliseconds in (400, 4000):  # a busy machine fills the page later
            page = visitor.open(address)
            expect(page.get_by_role("heading", level=1)).to_have_text(heading)
            page.wait_for_timeout(milliseconds)
            found = _walk(page)
            page.close()
            if not found:
                break
        else:
            wrong[address] = found
    assert wrong == {}


def _walk(page: Page) -> list[Any]:
    """What the Tab key doesn't mark on its way, and what it doesn't reach."""
    found: list[Any] = []
    for _ in range(300):
        page.keyboard.press("Tab")
        said = page.evaluate(REACH)
        if said == "again":
            break
        found += [said] if said else []
    if missed := page.evaluate(NOT_REACHED):
        found.append(missed)
    return found


@pytest.mark.parametrize(("name", "scopes"), SCOPES)
def test_a_key_is_offered_only_what_it_may_do(
    keyed: ConsoleServer, visit: Visit, name: str, scopes: list[Scope]
) -> None:
    key = keyed.key(f"{name}-reach", *scopes)
    visitor = visit(keyed.url, width=1440)
    visitor.use_key(key)
    page = visitor.open("#/adapters")
    refused: list[str] = []

    def note(response: Response) -> None:
        if response.status in (401, 403):
            refused.append(f"{page.url.partition('#')[2]}: {response.url}")

    page.on("response", note)
    expect(page.get_by_role("heading", level=1)).to_have_text("Adapters")
    page.get_by_role("rowheader").first.get_by_role("link").wait_for()
    waiting, seen, closed = ["#/adapters", "#/adapters?sort=-hits&memory=in"], set(), []
    while waiting:
        address = waiting.pop(0)
        if (kind := _kind(address)) in seen:
            continue
        seen.add(kind)
        page.evaluate("address => { location.hash = address; }", address)
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_timeout(250)
        if page.get_by_text("doesn't have the scope that this page needs").count():
            closed.append(address)
        waiting += page.evaluate(OFFERED)
    page.keyboard.press("?")
    letters = [text.split() for text in page.get_by_role("dialog").locator("dt").all_inner_texts()]
    page.keyboard.press("Escape")
    for letter in [each[-1][-1] for each in letters if each and each[0].startswith("g")]:
        page.keyboard.press("g")
        page.keyboard.press(letter)
        page.wait_for_timeout(100)
        if page.get_by_text("doesn't have the scope that this page needs").count():
            closed.append(f"g {letter}")
    assert (refused, closed) == ([], [])
    assert "#/adapters/" in seen, "a page of an adapter is among them"


def _kind(address: str) -> str:
    """Pages of adapters are alike: one stands for all."""
    path, _, query = address.partition("?")
    is_adapter = path.startswith("#/adapters/")
    return "#/adapters/" if is_adapter and not query else f"{path.split('/')[1]}?{query[:12]}"


def test_compare_asks_for_prompts_only_of_who_may_infer(keyed: ConsoleServer, visit: Visit) -> None:
    def opened(key: str) -> Page:
        visitor = visit(keyed.url)
        visitor.use_key(key)
        page = visitor.open("#/compare?a=upper%3A1&b=upper%3A2")
        expect(page.get_by_role("region", name="Differences")).to_be_visible()
        return page

    publisher = opened(keyed.key("publisher-compare", Scope.PUBLISH))
    expect(publisher.get_by_label("Prompts", exact=True)).to_have_count(0)
    reader = opened(keyed.key("reader-compare", Scope.INFER))
    expect(reader.get_by_label("Prompts", exact=True)).to_be_visible()
    expect(reader.get_by_role("button", name="Save the prompts …")).to_have_count(0)
