"""The cache page, drawn again and again: what a user holds stays held, what is read stays."""

import pytest
from playwright.sync_api import expect

from registry.auth.scopes import Scope
from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer, console_server
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


def test_a_tenant_is_offered_no_action_on_what_is_not_its_own(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit
) -> None:
    with console_server(tmp_path_factory.mktemp("tenant"), require_keys=True) as server:
        tenants = server.registry.tenants.create_service(server.cache.controller.tenants.usage)
        server.run(tenants.create("acme", {}, actor="test"))
        key = server.key("acme~operator", Scope.OPERATE)
        visitor = visit(server.url)
        visitor.expects_a_refusal()
        page = visitor.open("#/cache?ref=acme~notes")
        panel = page.get_by_role("dialog", name="Sign in")
        panel.get_by_label("Key").fill(key)
        panel.get_by_role("button", name="Use this key").click()
        expect(panel).to_be_hidden()  # the page is drawn anew for its caller
        actions = page.get_by_role("group", name="Actions").get_by_role("button")
        expect(actions).to_have_count(6)
        page.get_by_label("Reference").fill("upper")
        expect(actions).to_have_text(["Why?"])
