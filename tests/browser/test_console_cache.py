"""The cache page, drawn again and again: what a user holds stays held, what is read stays."""

from typing import Any

import pytest
from playwright.sync_api import Route, expect

from engine.errors import EngineUnavailable
from registry.auth.scopes import Scope
from tests.browser.conftest import Visit, Visitor
from tests.browser.console_server import SLOTS, ConsoleServer, console_server
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


def two_replicas(visitor: Visitor, engine_up: bool) -> None:
    """As an ingress answers: `upper:1` is in a slot on one, and in host memory of both."""

    def answer(route: Route) -> None:
        cache = route.fetch().json()
        held: dict[str, Any] = {"version_id": 1, "rank": 8, "size_bytes": 9, "host_bytes": 9}
        held |= {"reference": "upper:1", "leases": 0, "waiting": 0, "hits": 1, "leaving": False}
        held |= {"idle_seconds": 0.0, "pinned": None}
        in_slot = {**held, "slot": 0, "replica": "one"}
        in_host = {**held, "slot": None, "replica": "two"}
        sizes: dict[str, Any] = {"slots": 2, "host_capacity": 4, "host_bytes": 9}
        state: dict[str, Any] = {
            **sizes,
            "host_bytes_limit": None,
            "slots_by_state": {},
            "waiting": 0,
        }
        replicas = [
            {**state, "name": "one", "engine_up": True},
            {**state, "name": "two", "engine_up": engine_up},
        ]
        host = [in_slot, in_host] if engine_up else [in_slot]
        totals = {"slots": 4, "gpu": [in_slot], "host": host, "replicas": replicas}
        route.fulfill(json=cache | totals)

    visitor.context.route("**/api/v1/cache", answer)


def test_what_is_in_a_slot_of_one_replica_is_not_in_one_of_another(
    console: ConsoleServer, visit: Visit
) -> None:
    visitor = visit(console.url)
    two_replicas(visitor, engine_up=True)
    panel = visitor.open("#/cache?ref=upper:1").get_by_role("region", name="Control an adapter")
    facts = panel.locator(".facts-list")
    expect(facts).to_have_count(2)
    expect(facts.filter(has_text="one")).to_contain_text("GPU slot 0")
    expect(facts.filter(has_text="two")).to_contain_text("host memory")
    expect(facts.filter(has_text="two")).not_to_contain_text("slot")


def test_a_replica_whose_engine_is_down_has_no_free_slots(
    console: ConsoleServer, visit: Visit
) -> None:
    visitor = visit(console.url)
    two_replicas(visitor, engine_up=False)
    page = visitor.open("#/cache")
    expect(page.get_by_text("The engine of two is down")).to_be_visible()
    slots = page.get_by_role("list", name="GPU slots").get_by_role("listitem")
    expect(slots).to_have_count(4)
    expect(slots.filter(has_text="engine down")).to_have_count(2)
    expect(slots.filter(has_text="free")).to_have_count(1)
    page = visitor.open("#/server")
    expect(page.get_by_text("one up, two down")).to_be_visible()


def test_the_death_of_a_single_engine_is_shown_before_and_after_the_page_is_opened(
    console: ConsoleServer, visit: Visit
) -> None:
    controller = console.cache.controller
    visitor = visit(console.url)
    page = visitor.open("#/cache")
    slots = page.get_by_role("list", name="GPU slots").get_by_role("listitem")
    expect(slots).to_have_count(SLOTS)
    expect(page.get_by_text("The engine is down")).to_have_count(0)
    console.run(controller.on_engine_lost(EngineUnavailable("it ended")))
    try:
        for seen in (page, visitor.open("#/cache")):
            expect(seen.get_by_role("status").get_by_text("The engine is down")).to_be_visible()
            slots = seen.get_by_role("list", name="GPU slots").get_by_role("listitem")
            expect(slots).to_have_text(["engine down"] * SLOTS)
    finally:
        console.run(_serve_again(console))
    expect(page.get_by_text("The engine is down")).to_have_count(0)


async def _serve_again(console: ConsoleServer) -> None:
    console.cache.controller.on_engine_ready()


def test_decisions_that_could_not_be_read_are_not_called_none(
    console: ConsoleServer, visit: Visit
) -> None:
    visitor = visit(console.url)
    visitor.expects_a_refusal()
    visitor.context.route("**/api/v1/cache/decisions?*", lambda route: route.fulfill(status=503))
    visitor.context.route("**/api/v1/cache/stream", lambda route: route.fulfill(body=""))
    page = visitor.open("#/cache")
    expect(page.get_by_text("Earlier decisions:")).to_be_visible()
    tail = page.get_by_role("region", name="Decisions")
    expect(tail).to_contain_text("not read yet")
    expect(tail).not_to_contain_text("none since the server has started")


def test_a_server_that_stopped_answering_is_not_called_ready(
    console: ConsoleServer, visit: Visit
) -> None:
    visitor = visit(console.url)
    page = visitor.open("#/server")
    health = page.get_by_role("region").or_(page.locator("section")).filter(has_text="Health").first
    expect(health).to_contain_text("database")
    visitor.expects_a_refusal()
    visitor.context.route("**/readyz", lambda route: route.abort())
    expect(health).to_contain_text("no answer")
    expect(health).not_to_contain_text("database")
