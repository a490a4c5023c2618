"""The cache page, drawn again and again: what a user holds stays held, what is read stays."""

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer
from tests.browser.helpers import is_live, tier


def test_a_cell_that_moves_keeps_the_focus(console: ConsoleServer, visit: Visit) -> None:
    for name in ("upper:1", "rot13:1"):
        console.ask(name)
    page = visit(console.url).open("#/cache")
    is_live(page)
    cells = tier(page, "Host memory").get_by_role("button")
    expect(cells.first).to_contain_text("upper:1")
    cells.first.focus()
    page.evaluate("window.held = document.activeElement")
    console.ask("upper:1")
    expect(cells.first).to_contain_text("rot13:1")
    assert page.evaluate("document.activeElement === window.held")
    expect(cells.last).to_be_focused()


def test_the_decisions_wait_for_their_reader(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url).open("#/cache")
    is_live(page)
    decisions = page.get_by_role("list", name="Decisions, newest first")
    console.ask("rot13:1")
    newest = decisions.get_by_role("listitem").first
    expect(newest).to_contain_text("rot13:1")
    newest.hover()
    expect(page.get_by_text("paused while you read")).to_be_visible()
    console.ask("upper:1")
    expect(page.get_by_role("main")).to_contain_text("Last minute:")
    page.wait_for_timeout(1500)
    expect(newest).to_contain_text("rot13:1")
    page.mouse.move(0, 0)
    expect(newest).to_contain_text("upper:1")


def test_a_reference_that_is_typed_stays_while_the_page_is_drawn(
    console: ConsoleServer, visit: Visit
) -> None:
    page = visit(console.url).open("#/cache?ref=rot13")
    panel = page.get_by_role("region", name="Control an adapter")
    expect(panel).to_contain_text("rot13:1")
    panel.get_by_label("Reference").fill("upper")
    console.ask("rot13:1")
    page.wait_for_timeout(1200)
    expect(panel.get_by_label("Reference")).to_have_value("upper")
    expect(panel).to_contain_text("upper:1")
    panel.get_by_role("button", name="Why?").click()
    expect(panel.locator(".summary")).to_contain_text("upper")
    page.get_by_role("list", name="GPU slots").get_by_role("button").first.click()
    expect(panel.locator(".summary")).to_have_count(0)
    assert "ref=" in page.url
